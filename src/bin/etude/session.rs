//! What the folds of a run have in common.

use crate::args::RunArgs;
use crate::tensorboard::Board;
use etude::data::Inputs;
use etude::device::Device;
use etude::report::files::OutDir;
use etude::train::TrainOptions;

/// What is trained on what, with which options, and where its files go.
pub struct Session<'a> {
    pub device: &'a dyn Device,
    pub inputs: &'a Inputs,
    pub args: &'a RunArgs,
    pub options: &'a TrainOptions,
    pub out: Option<&'a OutDir>,
    pub board: Option<&'a Board>,
}

impl Session<'_> {
    /// What the data is called.
    pub fn data_name(&self) -> String {
        let name = self.args.data.as_ref().map(|path| path.file_name().unwrap_or(path.as_os_str()));
        name.map_or("the built-in synthetic set".into(), |name| name.to_string_lossy().into_owned())
    }
}
