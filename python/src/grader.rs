//! What `etude.Grader` calls: a grader is the bytes of a model file, as `etude train` writes it and `etude score` reads it.

use etude::audio::pitch::Voice;
use etude::audio::{Contour, F0Options, HOP, Scale, SourceOptions};
use etude::data::split::check_fractions;
use etude::data::{
    Comparison, ContourReader, Example, InputKind, InputOptions, Inputs, LoadOptions, Recordings, Reference,
    SplitBy, Take, listing, load_with_progress,
};
use etude::device::{Cpu, Cuda, Device};
use etude::model::{self, Criterion, ModelInfo};
use etude::report::scores::best_threshold;
use etude::train::{Epoch, Fit, Hooks, Prediction, Rule, Snapshot, TrainOptions, fit};
use etude::{Error, Result};
use pyo3::exceptions::{PyFileNotFoundError, PyOSError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyBytes;
use rayon::prelude::*;
use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Takes that are read, aligned and graded at a time: what bounds the memory.
const CHUNK: usize = 64;

/// How long a signal may wait to be seen.
const LOOK: Duration = Duration::from_millis(50);

/// What errors call a model that is in no file.
const IN_MEMORY: &str = "the model";

fn raised(error: Error) -> PyErr {
    let message = error.to_string();
    match error {
        Error::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
            PyFileNotFoundError::new_err(message)
        }
        Error::Io { .. } => PyOSError::new_err(message),
        Error::Device { .. } => PyRuntimeError::new_err(message),
        _ => PyValueError::new_err(message),
    }
}

/// A file of any kind that has a pitch, or f0 in Hz: float64, 0 where unvoiced.
#[derive(FromPyObject)]
enum Source {
    F0(PyBackedBytes),
    File(PathBuf),
}

/// Name, pitch, performer, and the place of its melody.
type GivenTake = (String, Source, String, Option<usize>);

/// Name, and its references by theirs.
type GivenMelody = (String, Vec<(String, Source)>);

/// Takes in memory, of melodies.
type Given = (Vec<GivenTake>, Vec<GivenMelody>);

/// What is learned from.
#[derive(FromPyObject)]
enum Graded {
    /// As `--data` of `etude train`.
    Path(PathBuf),
    /// Ratings of each take by each criterion.
    Takes(Given, Vec<Vec<Option<f32>>>, Vec<String>),
}

/// What is graded.
#[derive(FromPyObject)]
enum Ungraded {
    Manifest(PathBuf),
    Takes(Given),
}

/// How pitch is got, where it is kept, and where networks run.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
struct Means {
    f0_hop: Option<f64>,
    voice: String,
    keep: Option<PathBuf>,
    device: String,
    threads: usize,
}

/// How a network is trained.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
struct Training {
    input: Option<String>,
    criteria: Vec<String>,
    protocol: Option<String>,
    epochs: Option<usize>,
    degraded: f64,
    max_references: usize,
    val_fraction: Option<f64>,
    seed: u64,
}

impl Means {
    fn device(&self) -> Result<Box<dyn Device>> {
        match self.device.as_str() {
            "cpu" => Ok(Box::new(Cpu::<f32>::new(self.threads)?)),
            "cuda" => Ok(Box::new(Cuda::new(0)?)),
            other => Err(Error::config(format!("device '{other}': expected cpu or cuda"))),
        }
    }

    fn sources(&self) -> Result<SourceOptions> {
        let f0 = F0Options { row_hop: self.f0_hop, ..F0Options::default() };
        let voice: Voice = self.voice.parse()?;
        let sources = SourceOptions { f0, range: voice.range() };
        sources.check()?;
        Ok(sources)
    }

    /// The pitch of what is called `name`.
    fn contour(&self, reader: &ContourReader<'_>, name: &str, source: &Source) -> Result<Contour> {
        let bytes = match source {
            Source::File(path) => return reader.read(path),
            Source::F0(bytes) => bytes,
        };
        let hop = self.f0_hop.ok_or_else(|| {
            Error::config(format!("{name}: f0_hop: say how many seconds apart the numbers of a contour are"))
        })?;
        let number = |bytes: &[u8]| bytes.try_into().map_or(f64::NAN, f64::from_ne_bytes);
        let f0: Vec<f64> = bytes.chunks_exact(size_of::<f64>()).map(number).collect();
        let times: Vec<f64> = (0..f0.len()).map(|i| i as f64 * hop).collect();
        Contour::from_f0(&times, &f0, HOP).map_err(|error| Error::config(format!("{name}: {error}")))
    }
}

/// Runs on threads of its own, of which none is missing in a process that was forked, and looks for signals meanwhile; `run` ends
/// early where it is told to.
fn watched<T: Send>(
    py: Python<'_>,
    threads: usize,
    run: impl FnOnce(&AtomicBool) -> Result<T> + Send,
) -> PyResult<T> {
    let stop = AtomicBool::new(false);
    let (send, receive) = mpsc::channel();
    let receive = Mutex::new(receive);
    let on_threads = || {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        let pool = pool.map_err(|e| Error::config(format!("cannot start {threads} threads: {e}")))?;
        pool.install(|| run(&stop))
    };
    std::thread::scope(|scope| {
        scope.spawn(move || send.send(on_threads()));
        let mut interrupted = None;
        loop {
            let wait = || receive.lock().unwrap_or_else(PoisonError::into_inner).recv_timeout(LOOK);
            match (py.detach(wait), interrupted.take()) {
                (Ok(_), Some(interrupt)) => return Err(interrupt),
                (Ok(result), None) => return result.map_err(raised),
                (Err(RecvTimeoutError::Timeout), before) => interrupted = before.or(py.check_signals().err()),
                (Err(RecvTimeoutError::Disconnected), _) => {
                    return Err(PyRuntimeError::new_err("a thread of the grader's ended too early"));
                }
            }
            stop.store(interrupted.is_some(), Ordering::Relaxed);
        }
    })
}

/// Whether somebody asked to stop, as an error.
fn go_on(stop: &AtomicBool) -> Result<()> {
    match stop.load(Ordering::Relaxed) {
        true => Err(Error::config("asked to stop")),
        false => Ok(()),
    }
}

/// Takes as a data set holds them.
fn recordings(
    (takes, melodies): &Given,
    ratings: Vec<Vec<Option<f32>>>,
    criteria: Vec<String>,
    means: &Means,
    stop: &AtomicBool,
) -> Result<Recordings> {
    let reader = ContourReader::new(&means.sources()?, means.keep.as_deref(), &|_, _| {});
    let read = |name: &str, source: &Source| {
        go_on(stop)?;
        means.contour(&reader, name, source)
    };
    let references = melodies.par_iter().flat_map(|(melody, of)| {
        of.par_iter().map(|(id, source)| {
            Ok(Reference { id: id.clone(), melody: melody.clone(), contour: read(id, source)? })
        })
    });
    let references = references.collect::<Result<Vec<_>>>()?;
    let takes = takes.par_iter().zip(ratings).map(|((id, source, performer, melody), ratings)| {
        Ok(Take {
            id: id.clone(),
            performer: performer.clone(),
            melody: melody.map(|place| melodies[place].0.clone()),
            contour: read(id, source)?,
            ratings,
            grades: Vec::new(),
            pass: None,
            split: None,
        })
    });
    let takes = takes.collect::<Result<Vec<_>>>()?;
    Ok(Recordings { criteria, takes, references, graders: None, notes: reader.lines() })
}

impl Training {
    /// What the network is to see.
    fn shown(&self) -> Result<InputOptions> {
        Ok(InputOptions {
            kind: self.input.as_deref().map(str::parse).transpose()?,
            criteria: self.criteria.clone(),
            max_references: self.max_references,
            degraded: self.degraded > 0.0,
            ..InputOptions::default()
        })
    }

    /// How it is trained on inputs of this kind, rated by so many criteria.
    fn options(&self, kind: InputKind, criteria: usize) -> Result<TrainOptions> {
        let mut options = TrainOptions::for_inputs(kind, Scale::default().semitone()).for_criteria(criteria);
        if let Some(protocol) = &self.protocol {
            options.protocol = protocol.parse()?;
        }
        if let Some(epochs) = self.epochs {
            options.epochs = epochs;
            options.encoder_epochs = TrainOptions::encoder_epochs(epochs);
        }
        (options.degraded, options.seed) = (self.degraded, self.seed);
        Ok(options)
    }

    /// Checks what can be before anything is read: that may take minutes.
    fn check(&self) -> Result<()> {
        let kind = self.shown()?.kind.unwrap_or(InputKind::AlignmentPath);
        self.options(kind, 1)?.check()?;
        check_fractions(self.val_fraction.unwrap_or(0.0), 0.0)
    }
}

/// A network trained as `etude train` trains one that it tests on nothing: a model file, and what was dropped on the way.
fn trained(
    (recordings, data): (&Recordings, &str),
    how: &Training,
    device: &dyn Device,
    progress: &mut dyn FnMut(&Epoch) -> Result<()>,
) -> Result<(Vec<u8>, Vec<String>)> {
    let shown = how.shown()?;
    let inputs = Inputs::build(recordings, &shown, &|_, _| {})?;
    let val_fraction = how.val_fraction.unwrap_or(Rule::of(inputs.kind).val_fraction());
    let split = inputs.holdout(SplitBy::Performer, val_fraction, 0.0, how.seed)?;
    let mut options = how.options(inputs.kind, inputs.criteria.len())?;
    if how.epochs.is_none() {
        options = options.for_takes(split.train.len());
    }
    let mut watch = |epoch: &Epoch, _: &mut Snapshot<'_>| {
        progress(epoch)?;
        Ok(ControlFlow::Continue(()))
    };
    let hooks = Hooks { progress: Some(&mut watch), ..Hooks::default() };
    let mut fitted = fit(device, &inputs, &split, &options, hooks)?;
    let mut info = ModelInfo::of((&inputs, data), &split, &shown, &options, fitted.epochs);
    if inputs.criteria.len() > 1 {
        let named = |name: &String| Criterion { name: name.clone(), interval: None };
        info.criteria = inputs.criteria.iter().map(named).collect();
    }
    let known: Vec<usize> = split.train.iter().chain(&split.val).copied().collect();
    let passed: Option<Vec<bool>> = known.iter().map(|&e| inputs.examples[e].pass).collect();
    if let Some(passed) = passed {
        let made = fitted.predict(device, &known)?;
        let made = known.iter().zip(&made).map(|(&e, made)| made.beside(&inputs.examples[e]));
        info.threshold = Some(best_threshold(&made.collect::<Vec<_>>(), &passed));
    }
    let bytes = model::to_bytes(Path::new(IN_MEMORY), device, &fitted.net, &info)?;
    Ok((bytes, inputs.notes))
}

/// Trains a grader: a model file, what was read, and what was dropped of it. `report` is called with each epoch's number, how
/// many there are at most, and its loss.
#[pyfunction]
fn grader_fit<'py>(
    py: Python<'py>,
    graded: Graded,
    how: Training,
    means: Means,
    report: Option<Py<PyAny>>,
) -> PyResult<(Bound<'py, PyBytes>, Vec<String>, Vec<String>)> {
    let (bytes, read, dropped) = watched(py, means.threads, |stop| {
        how.check()?;
        let device = means.device()?;
        let (recordings, data) = match graded {
            Graded::Path(path) => {
                let (contours, keep) = (means.sources()?, means.keep.clone());
                let options = LoadOptions { contours, keep, ..LoadOptions::default() };
                let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
                (load_with_progress(&path, &options, &|_, _| {})?, name)
            }
            Graded::Takes(takes, ratings, criteria) => {
                (recordings(&takes, ratings, criteria, &means, stop)?, "takes in memory".to_string())
            }
        };
        let mut progress = |epoch: &Epoch| {
            if let Some(report) = &report {
                Python::attach(|py| {
                    let told = report.call1(py, (epoch.epoch, epoch.of, epoch.train_loss));
                    told.map_err(|error| error.write_unraisable(py, None)).ok();
                });
            }
            go_on(stop)
        };
        let (bytes, dropped) = trained((&recordings, &data), &how, device.as_ref(), &mut progress)?;
        Ok((bytes, recordings.notes, dropped))
    })?;
    Ok((PyBytes::new(py, &bytes), read, dropped))
}

/// Each take's ratings, by each criterion, and its embedding.
type Predicted = Vec<(Vec<f32>, Vec<f32>)>;

/// The takes of a manifest, as those in memory are given.
fn listed(path: &Path) -> Result<Given> {
    let inside = path.join("manifest.csv");
    let list = listing::list(if path.is_dir() { &inside } else { path })?;
    let sets: BTreeSet<Vec<PathBuf>> = list.iter().map(|take| take.references.clone()).collect();
    let sets: Vec<Vec<PathBuf>> = sets.into_iter().filter(|set| !set.is_empty()).collect();
    let place = |set: &Vec<PathBuf>| sets.binary_search(set).ok();
    let takes = list.into_iter().map(|take| {
        let melody = place(&take.references);
        (take.id, Source::File(take.path), String::new(), melody)
    });
    let takes = takes.collect();
    let named = |path: PathBuf| (path.display().to_string(), Source::File(path));
    let melodies = sets.into_iter().map(|set| (String::new(), set.into_iter().map(named).collect()));
    Ok((takes, melodies.collect()))
}

fn predicted(
    (name, bytes): (&Path, &[u8]),
    takes: Given,
    means: &Means,
    stop: &AtomicBool,
) -> Result<Predicted> {
    let device = means.device()?;
    let (info, mut net) = model::load_bytes(name, bytes, device.as_ref())?;
    let reader = ContourReader::new(&means.sources()?, means.keep.as_deref(), &|_, _| {});
    let read = |name: &str, source: &Source| {
        go_on(stop)?;
        means.contour(&reader, name, source)
    };
    let (kind, max_references) = (Some(info.input), info.max_references);
    let options = InputOptions { kind, scale: info.scale, max_references, ..InputOptions::default() };
    let (takes, melodies) = takes;
    let compare = |(_, references): GivenMelody| {
        let contours: Vec<Contour> =
            references.par_iter().map(|(id, source)| read(id, source)).collect::<Result<_>>()?;
        Comparison::of(info.input, &contours.iter().collect::<Vec<_>>(), &options)
    };
    let comparisons = match info.input.needs_reference() {
        true => melodies.into_par_iter().map(compare).collect::<Result<Vec<_>>>()?,
        false => vec![Comparison::of(info.input, &[], &options)?],
    };
    let example = |(id, source, _, melody): &GivenTake| {
        let contour = read(id, source)?;
        let comparison = match (info.input.needs_reference(), melody) {
            (true, Some(place)) => &comparisons[*place],
            (true, None) => {
                let message = "the model compares a take with references of its melody, and it has none";
                return Err(Error::config(format!("{id}: {message}")));
            }
            (false, _) => &comparisons[0],
        };
        Example::ungraded(comparison, &contour).map_err(|error| Error::config(format!("{id}: {error}")))
    };
    let mut all = Vec::with_capacity(takes.len());
    for chunk in takes.chunks(CHUNK) {
        let inputs = Inputs {
            channels: net.config.channels,
            kind: info.input,
            criteria: info.criteria(),
            graders: None,
            examples: chunk.par_iter().map(example).collect::<Result<_>>()?,
            notes: Vec::new(),
            degraded: Vec::new(),
        };
        let mut fitted = Fit::of(device.as_ref(), net, &inputs, info.windows())?;
        let made = fitted.predict(device.as_ref(), &(0..chunk.len()).collect::<Vec<_>>())?;
        for (Prediction { rating, ratings, embedding }, (id, ..)) in made.into_iter().zip(chunk) {
            if !rating.is_finite() {
                return Err(Error::config(format!("{id}: the model makes no number of it")));
            }
            all.push((if ratings.is_empty() { vec![rating] } else { ratings }, embedding));
        }
        net = fitted.net;
    }
    Ok(all)
}

/// What a grader makes of takes.
#[pyfunction]
fn grader_predict(
    py: Python<'_>,
    name: PathBuf,
    model: PyBackedBytes,
    ungraded: Ungraded,
    means: Means,
) -> PyResult<Predicted> {
    watched(py, means.threads, |stop| {
        let takes = match ungraded {
            Ungraded::Manifest(path) => listed(&path)?,
            Ungraded::Takes(takes) => takes,
        };
        predicted((&name, &model), takes, &means, stop)
    })
}

/// What a model file says of itself, but for the takes that it was made with, as JSON.
#[pyfunction]
fn grader_info(name: PathBuf, model: PyBackedBytes) -> PyResult<String> {
    let (mut info, _) = model::parse(&name, &model).map_err(raised)?;
    info.takes = Default::default();
    serde_json::to_string(&info).map_err(|e| PyValueError::new_err(e.to_string()))
}

/// Writes a model file, whole or not at all.
#[pyfunction]
fn grader_save(path: PathBuf, model: PyBackedBytes) -> PyResult<()> {
    etude::fs::write_atomic(&path, &model).map_err(raised)
}

/// The model that comes with Etude.
#[pyfunction]
fn grader_built_in(py: Python<'_>) -> Bound<'_, PyBytes> {
    PyBytes::new(py, model::PLANTED)
}

/// Adds all of it.
pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(grader_fit, m)?)?;
    m.add_function(wrap_pyfunction!(grader_predict, m)?)?;
    m.add_function(wrap_pyfunction!(grader_info, m)?)?;
    m.add_function(wrap_pyfunction!(grader_save, m)?)?;
    m.add_function(wrap_pyfunction!(grader_built_in, m)?)
}
