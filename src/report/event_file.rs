//! Event files of TensorBoard: what a run gives, for whoever watches it.
//!
//! A file is records as TFRecord frames them: the length of the data in eight bytes, a checksum of those, the data, a checksum of
//! it. The data are messages of protocol buffers, `Event` of TensorBoard's `event.proto` and what it holds; of their fields
//! those are declared here that are written.

use super::files::EpochRow;
use super::metrics::{Metric, Metrics};
use crate::{Error, Result};
use prost::{Enumeration, Message};
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// How the name of every event file begins; seconds since 1970 in ten digits follow, by which TensorBoard orders them.
const PREFIX: &str = "events.out.tfevents.";

/// That the beginning of a session ends what an earlier one said of its step and of later ones.
const VERSION: &str = "brain.Event:2";

#[derive(Message)]
struct Event {
    /// Seconds since 1970.
    #[prost(double, tag = "1")]
    wall_time: f64,
    #[prost(int64, tag = "2")]
    step: i64,
    #[prost(string, optional, tag = "3")]
    file_version: Option<String>,
    #[prost(message, optional, tag = "5")]
    summary: Option<Summary>,
    #[prost(message, optional, tag = "7")]
    session_log: Option<SessionLog>,
}

#[derive(Message)]
struct Summary {
    #[prost(message, repeated, tag = "1")]
    value: Vec<Value>,
}

#[derive(Message)]
struct Value {
    #[prost(string, tag = "1")]
    tag: String,
    #[prost(float, optional, tag = "2")]
    simple_value: Option<f32>,
    #[prost(message, optional, tag = "8")]
    tensor: Option<TensorProto>,
    #[prost(message, optional, tag = "9")]
    metadata: Option<SummaryMetadata>,
}

/// A tensor without a shape: one text.
#[derive(Message)]
struct TensorProto {
    #[prost(enumeration = "DataType", tag = "1")]
    dtype: i32,
    #[prost(bytes = "vec", repeated, tag = "8")]
    string_val: Vec<Vec<u8>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Enumeration)]
#[repr(i32)]
enum DataType {
    Invalid = 0,
    String = 7,
}

#[derive(Message)]
struct SummaryMetadata {
    #[prost(message, optional, tag = "1")]
    plugin_data: Option<PluginData>,
}

#[derive(Message)]
struct PluginData {
    #[prost(string, tag = "1")]
    plugin_name: String,
}

#[derive(Message)]
struct SessionLog {
    #[prost(enumeration = "SessionStatus", tag = "1")]
    status: i32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Enumeration)]
#[repr(i32)]
enum SessionStatus {
    Unspecified = 0,
    Start = 1,
}

/// TFRecord's checksum: CRC-32C, turned by 15 bits and moved, so that a checksum of data that hold one is no special case.
fn masked_crc(data: &[u8]) -> [u8; 4] {
    crc32c::crc32c(data).rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes()
}

fn record(event: &Event) -> Vec<u8> {
    let data = event.encode_to_vec();
    let length = (data.len() as u64).to_le_bytes();
    [&length[..], &masked_crc(&length), &data, &masked_crc(&data)].concat()
}

/// Time since 1970; none on a clock that is set before.
fn now() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

/// The event files in a directory, in their order; none where there is no directory.
///
/// # Errors
/// [`Error::Io`] if it cannot be read.
pub fn event_files(dir: &Path) -> Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(dir) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(vec![]),
        entries => entries.map_err(Error::io(dir, "read"))?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry.map_err(Error::io(dir, "read"))?;
        if entry.file_name().to_string_lossy().starts_with(PREFIX) {
            files.push(entry.path());
        }
    }
    files.sort();
    Ok(files)
}

/// The seconds in the name of an event file.
fn seconds(path: &Path) -> Option<u64> {
    path.file_name()?.to_str()?.strip_prefix(PREFIX)?.split('.').next()?.parse().ok()
}

/// An event file while it grows. Every call hands whole records to the system, so that who watches sees them at once.
#[derive(Debug)]
pub struct EventFile {
    path: PathBuf,
    file: File,
}

impl EventFile {
    /// Begins a file in `dir`, made where it is missing. Of earlier files there TensorBoard shows what lies before `step`.
    ///
    /// # Errors
    /// [`Error::Io`] if the directory cannot be made or read, or the file not be written.
    pub fn create(dir: &Path, step: u64) -> Result<Self> {
        fs::create_dir_all(dir).map_err(Error::io(dir, "create"))?;
        // Behind the earlier ones, though they be of this second or the clock was set back.
        let newest = event_files(dir)?.iter().filter_map(|path| seconds(path)).max();
        let seconds = newest.map_or(0, |newest| newest.saturating_add(1)).max(now().as_secs());
        let path = dir.join(format!("{PREFIX}{seconds:010}.etude.{}.0", std::process::id()));
        let file = File::options().append(true).create_new(true).open(&path);
        let mut file = Self { file: file.map_err(Error::io(&path, "create"))?, path };
        file.add(Event { file_version: Some(VERSION.into()), ..Event::default() })?;
        // The first one too: TensorBoard takes no session for one that goes on unless it has seen another begin.
        let start = SessionLog { status: SessionStatus::Start.into() };
        file.add(Event { step: step as i64, session_log: Some(start), ..Event::default() })?;
        Ok(file)
    }

    fn add(&mut self, event: Event) -> Result<()> {
        let record = record(&Event { wall_time: now().as_secs_f64(), ..event });
        self.file.write_all(&record).map_err(Error::io(&self.path, "write"))
    }

    /// Adds numbers, each with its tag. They are rounded to single precision, as TensorBoard keeps them.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be written.
    pub fn scalars(&mut self, step: u64, values: &[(String, f64)]) -> Result<()> {
        let value = |(tag, value): &(String, f64)| Value {
            tag: tag.clone(),
            simple_value: Some(*value as f32),
            ..Value::default()
        };
        let summary = Some(Summary { value: values.iter().map(value).collect() });
        self.add(Event { step: step as i64, summary, ..Event::default() })
    }

    /// Adds a text in Markdown.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be written.
    pub fn text(&mut self, step: u64, tag: &str, markdown: &str) -> Result<()> {
        let tensor = TensorProto { dtype: DataType::String.into(), string_val: vec![markdown.into()] };
        let metadata = SummaryMetadata { plugin_data: Some(PluginData { plugin_name: "text".into() }) };
        let value =
            Value { tag: tag.into(), tensor: Some(tensor), metadata: Some(metadata), ..Value::default() };
        let summary = Some(Summary { value: vec![value] });
        self.add(Event { step: step as i64, summary, ..Event::default() })
    }

    /// Adds what an epoch gave: `loss/train`, `learning_rate` and, where there are such, `loss/validation` and `r2/validation`.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be written.
    pub fn epoch(&mut self, row: &EpochRow) -> Result<()> {
        let values = [
            ("loss/train", Some(row.train_loss)),
            ("loss/validation", row.val_loss),
            ("r2/validation", row.val_r2),
            ("learning_rate", Some(row.lr)),
        ];
        let values: Vec<_> =
            values.into_iter().filter_map(|(tag, value)| Some((tag.to_string(), value?))).collect();
        self.scalars(row.epoch, &values)
    }

    /// Adds what a test gave after the epoch `step`: `test/<metric>` of each that is defined, by its name in `metrics.json`; and
    /// of each of several criteria `test/<criterion>/<metric>`.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be written.
    pub fn test(&mut self, step: u64, metrics: &Metrics, criteria: &[(&String, Metrics)]) -> Result<()> {
        let defined = |prefix: String, metrics: &Metrics| {
            let of = |metric: &Metric| Some((format!("{prefix}/{}", metric.name), (metric.value)(metrics)?));
            Metrics::TABLE.iter().filter_map(of).collect::<Vec<_>>()
        };
        let mut values = defined("test".into(), metrics);
        values.extend(criteria.iter().flat_map(|(name, metrics)| defined(format!("test/{name}"), metrics)));
        self.scalars(step, &values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|b| format!("{b:02x}")).collect()
    }

    fn scalar(tag: &str, value: f32) -> Value {
        Value { tag: tag.into(), simple_value: Some(value), ..Value::default() }
    }

    /// What TensorBoard 2.21.0 makes of the same events: its `RecordWriter`, and the metadata of its text plugin.
    #[test]
    fn records_are_tensorboards_own() {
        let at = |event: Event| hex(&record(&Event { wall_time: 1_700_000_000.25, ..event }));
        assert_eq!(
            at(Event { file_version: Some(VERSION.into()), ..Event::default() }),
            "1800000000000000a37f4b220900001040fc54d9411a0d627261696e2e4576656e743a32338d2fe9"
        );
        let start = SessionLog { status: SessionStatus::Start.into() };
        assert_eq!(
            at(Event { step: 3, session_log: Some(start), ..Event::default() }),
            "0f000000000000006d532b090900001040fc54d94110033a0208019481124c"
        );
        // A zero is written as any other number.
        let value = vec![scalar("loss/train", 0.0), scalar("r2/validation", f32::NAN)];
        assert_eq!(
            at(Event { step: 4, summary: Some(Summary { value }), ..Event::default() }),
            "36000000000000004f578cef0900001040fc54d94110042a290a110a0a6c6f73732f747261696e15000000000a140a0d72322f7661\
             6c69646174696f6e150000c07f0f11c387"
        );
        let dir = tempfile::tempdir().unwrap();
        let mut file = EventFile::create(dir.path(), 0).unwrap();
        let begin = fs::metadata(&file.path).unwrap().len() as usize;
        file.text(0, "settings", "| a |").unwrap();
        let written = fs::read(&file.path).unwrap();
        let data = &written[begin + 12..written.len() - 4];
        let text = Event::decode(data).unwrap();
        assert_eq!(
            at(text),
            "2c00000000000000f4aecc450900001040fc54d9412a210a1f0a0873657474696e67734209080742057c2061207c4a080a060a0474\
             657874f8661469"
        );
    }

    #[test]
    fn a_later_file_comes_behind_the_earlier_ones() {
        let dir = tempfile::tempdir().unwrap();
        let ahead = dir.path().join(format!("{PREFIX}{}.other.1.2", now().as_secs() + 1000));
        fs::write(&ahead, "").unwrap();
        fs::write(dir.path().join("notes.txt"), "").unwrap();
        let mut made = vec![ahead];
        for step in 0..3 {
            made.push(EventFile::create(dir.path(), step).unwrap().path);
        }
        assert_eq!(event_files(dir.path()).unwrap(), made);
        assert!(event_files(&dir.path().join("none")).unwrap().is_empty());
    }
}
