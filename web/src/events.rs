//! What the page is told while something takes long.

use etude::{Error, Result};
use js_sys::{Function, Promise};
use serde::Serialize;
use wasm_bindgen::JsValue;
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;

/// The end of an epoch.
#[derive(Serialize)]
pub struct EpochEvent<'a> {
    pub epoch: usize,
    pub of: usize,
    pub phase: &'a str,
    pub train_loss: f64,
    pub held_out: HeldOut,
}

/// What the network makes of takes that it is not trained on.
#[derive(Serialize)]
pub struct HeldOut {
    pub r2: Option<f64>,
    pub ratings: Vec<f32>,
    pub predictions: Vec<f32>,
    /// Row-major, one row for each prediction.
    pub embedding: Vec<f32>,
}

/// A function of the page's that is told, and answers when it likes.
pub struct Listener(Function);

impl Listener {
    pub fn new(function: Function) -> Self {
        Self(function)
    }

    /// Hands over `event` as JSON; the answer, once there is one.
    pub async fn tell(&self, event: &impl Serialize) -> Result<JsValue> {
        let event = serde_json::to_string(event).map_err(|e| Error::config(format!("an event: {e}")))?;
        let answer = self.0.call1(&JsValue::NULL, &event.into()).map_err(said)?;
        JsFuture::from(Promise::resolve(&answer)).await.map_err(said)
    }
}

/// What the page threw, in words.
fn said(thrown: JsValue) -> Error {
    let words = thrown.dyn_ref::<js_sys::Error>().map(|error| String::from(error.message()));
    Error::config(format!("the page: {}", words.unwrap_or_else(|| format!("{thrown:?}"))))
}
