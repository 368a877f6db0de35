//! One network: trained, tested and saved.

use crate::checkpoints::Checkpoints;
use crate::grades::{ByCriterion, Grades};
use crate::options::{input_options, options_for};
use crate::out::tell;
use crate::run::Run;
use crate::session::Session;
use crate::{load, print, settings, signals, tensorboard};
use etude::Result;
use etude::data::known::KnownTakes;
use etude::data::{Example, Split, SplitIndices};
use etude::model::{self, Criterion, ModelInfo};
use etude::report::event_file::EventFile;
use etude::report::files::{EpochRow, OutDir, PredictionRow};
use etude::report::interval::Interval;
use etude::train::{Epoch, Fit, Hooks, Prediction, Snapshot, State, TrainOptions, fit};
use std::ops::ControlFlow;

/// What is trained and tested on.
pub struct Fold<'a> {
    /// Its own from 1, and how many there are, where there are folds.
    pub number: Option<(usize, usize)>,
    pub split: &'a SplitIndices,
    /// Whether it is the run's last.
    pub last: bool,
}

/// A network that was trained.
pub struct Trained {
    pub parameters: usize,
    pub launches_per_step: usize,
    pub dispatches_per_step: Option<f64>,
    /// Of its test takes.
    pub grades: Grades,
    /// Their embeddings before training, one after the other, where a page shows them.
    pub before: Option<Vec<f32>>,
    /// What it was trained with.
    pub options: TrainOptions,
}

impl Fold<'_> {
    /// Trains and tests a network; `run` is told, and the directory gets its model. Nothing, if a signal ended the training.
    pub fn train(
        &self,
        session: &Session<'_>,
        run: &mut Run,
        checkpoints: Option<&mut Checkpoints>,
        resume: Option<State>,
    ) -> Result<Option<Trained>> {
        let Session { device, inputs, .. } = *session;
        let options = options_for(self.split.train.len(), session.options, session.args);
        let mut events = self.events(session, run, &options, resume.is_some())?;
        let mut fitted = self.fit(session, &options, run, checkpoints, events.as_mut(), resume)?;
        if fitted.stopped {
            return Ok(None);
        }
        if session.args.profile && self.last {
            print::profile(&fitted.profile(device)?);
            fitted.traffic.iter().for_each(|&(traffic, steps)| print::traffic(traffic, steps));
        }
        let known = self.known(session, &mut fitted)?;
        let threshold = known.as_ref().and_then(Grades::threshold);
        let calibrated = known.as_ref().filter(|_| session.args.calibrate);
        let calibration = calibrated.map(|known| known.calibration(inputs)).transpose()?;
        let tested = fitted.predict(device, &self.split.test)?;
        let grades = Grades::new(inputs, &self.split.test, &tested);
        let metrics =
            grades.metrics(session.options.contrast.label_bins(), threshold, calibration.as_ref())?;
        if let (Some((i, k)), Some(r2)) = (self.number, metrics.r2) {
            tell!("fold {i} of {k}: {} takes, R² {r2:.3}", self.split.test.len());
        }
        if let Some(events) = &mut events {
            let each = inputs.criteria.iter().zip(grades.criteria.iter().map(ByCriterion::metrics));
            events.test(fitted.epochs as u64, &metrics, &each.collect::<Vec<_>>())?;
        }
        run.folds.push(metrics);
        run.criteria.push(grades.criteria.iter().map(ByCriterion::metrics).collect());
        let of_graders = known.as_ref().and_then(Grades::grader_thresholds);
        run.graders.extend(grades.agreement(of_graders.as_deref()));
        run.as_grader.extend(grades.as_grader(calibration.as_ref()));
        run.decisions.extend(grades.decisions(threshold, calibration.as_ref()));
        if let Some(out) = session.out {
            self.add_predictions(session, &mut fitted, &tested, threshold, run)?;
            let name =
                self.number.map_or("model.safetensors".to_string(), |(i, _)| format!("fold-{i}.safetensors"));
            let interval = Interval::of(&grades.predictions, &grades.ratings);
            let each = inputs.criteria.iter().zip(&grades.criteria);
            let criteria = each.map(|(name, of)| Criterion {
                name: name.clone(),
                interval: Interval::of(&of.predictions, &of.ratings),
            });
            let criteria = criteria.collect();
            let info = self.model_info(session, fitted.epochs);
            let info = ModelInfo { threshold, calibration, interval, criteria, ..info };
            model::save(&out.path().join(name), device, &fitted.net, &info)?;
        }
        let before =
            session.out.filter(|_| self.last).map(|_| self.untrained(session, &options)).transpose()?;
        Ok(Some(Trained {
            parameters: fitted.net.parameters(),
            launches_per_step: fitted.launches_per_step,
            dispatches_per_step: fitted.traffic.map(|(t, steps)| t.dispatches as f64 / steps as f64),
            grades,
            before,
            options,
        }))
    }

    /// What the network made of the test takes before it was trained.
    fn untrained(&self, session: &Session<'_>, options: &TrainOptions) -> Result<Vec<f32>> {
        let mut fit = Fit::untrained(session.device, session.inputs, self.split, options)?;
        let made = fit.predict(session.device, &self.split.test)?;
        Ok(made.into_iter().flat_map(|p| p.embedding).collect())
    }

    /// The event file of this fold. One that goes on says the epoch of the checkpoint once more and ends what an earlier file
    /// says from there on: a run that was killed may have tested the network already.
    fn events(
        &self,
        session: &Session<'_>,
        run: &Run,
        options: &TrainOptions,
        goes_on: bool,
    ) -> Result<Option<EventFile>> {
        let Some(board) = session.board else { return Ok(None) };
        let dir = board.fold(self.number.map(|(i, _)| i));
        let history = session.out.filter(|_| goes_on).map(OutDir::read_history).transpose()?;
        if let Some(row) = history.and_then(|mut rows| rows.pop()) {
            let mut file = EventFile::create(&dir, row.epoch)?;
            file.epoch(&row)?;
            return Ok(Some(file));
        }
        let mut file = EventFile::create(&dir, 0)?;
        file.text(0, "settings", &tensorboard::table(&settings::settings(session, run, options)))?;
        Ok(Some(file))
    }

    /// Fits the network, with a progress bar and checkpoints, until it is done or a signal asks to stop.
    fn fit(
        &self,
        session: &Session<'_>,
        options: &TrainOptions,
        run: &mut Run,
        mut checkpoints: Option<&mut Checkpoints>,
        mut events: Option<&mut EventFile>,
        resume: Option<State>,
    ) -> Result<Fit> {
        let name = self.number.map_or("training".to_string(), |(i, k)| format!("fold {i} of {k}"));
        let progress = load::bar(1, &name);
        let mut watch = |e: &Epoch, now: &mut Snapshot<'_>| {
            progress.set_length(e.of as u64);
            progress.set_position(e.epoch as u64);
            let val = e.val_loss.map_or(String::new(), |v| format!(", validation {v:.4}"));
            progress.set_message(format!("{} loss {:.4}{val}", e.phase, e.train_loss));
            let stop = signals::asked().is_some();
            run.epochs += 1;
            let row = self.epoch_row(e);
            // Before a checkpoint counts on it.
            if let Some(events) = &mut events {
                events.epoch(&row)?;
            }
            if let Some(checkpoints) = &mut checkpoints {
                checkpoints.keep(&row, now, run, stop)?;
            }
            Ok(if stop { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        };
        let hooks = Hooks { resume, progress: Some(&mut watch) };
        let fitted = fit(session.device, session.inputs, self.split, options, hooks)?;
        progress.finish_and_clear();
        Ok(fitted)
    }

    /// The takes that it was trained and validated on: what is decided from predictions, between pass and fail too, is learned
    /// from these like the rest, never on the test part. `None` where nothing is.
    fn known(&self, session: &Session<'_>, fitted: &mut Fit) -> Result<Option<Grades>> {
        let inputs = session.inputs;
        let known: Vec<usize> = self.split.train.iter().chain(&self.split.val).copied().collect();
        if !session.args.calibrate && known.iter().any(|&e| inputs.examples[e].pass.is_none()) {
            return Ok(None);
        }
        Ok(Some(Grades::new(inputs, &known, &fitted.predict(session.device, &known)?)))
    }

    fn epoch_row(&self, epoch: &Epoch) -> EpochRow {
        let phase = &epoch.phase;
        EpochRow {
            epoch: epoch.epoch as u64,
            phase: self.number.map_or(phase.clone(), |(i, _)| format!("{phase} (fold {i})")),
            lr: epoch.lr,
            train_loss: epoch.train_loss,
            val_loss: epoch.val_loss,
            val_r2: epoch.val_r2,
        }
    }

    /// Lists the predictions, which pass from `threshold` on; with folds each take is tested once, and only that prediction is
    /// listed.
    fn add_predictions(
        &self,
        session: &Session<'_>,
        fitted: &mut Fit,
        tested: &[Prediction],
        threshold: Option<f32>,
        run: &mut Run,
    ) -> Result<()> {
        let mut list = |part: Split, predictions: &[Prediction]| {
            for (&e, made) in self.split.part(part).iter().zip(predictions) {
                let example = &session.inputs.examples[e];
                let row = self.row(part, example, made.beside(example), threshold);
                let each = session.inputs.criteria.iter().zip(example.ratings.iter().zip(&made.ratings));
                run.by_criterion.extend(each.filter_map(|(criterion, (rating, made))| {
                    let (criterion, passed) = (Some(criterion.clone()), None);
                    Some(PredictionRow {
                        rating: (*rating)?,
                        prediction: *made,
                        passed,
                        criterion,
                        ..row.clone()
                    })
                }));
                run.predictions.push(row);
            }
        };
        list(Split::Test, tested);
        if self.number.is_none() {
            for part in [Split::Val, Split::Train] {
                list(part, &fitted.predict(session.device, self.split.part(part))?);
            }
        }
        Ok(())
    }

    fn row(&self, part: Split, example: &Example, prediction: f32, threshold: Option<f32>) -> PredictionRow {
        PredictionRow {
            id: example.id.clone(),
            performer: example.performer.clone(),
            split: part.name().to_string(),
            rating: example.rating,
            prediction,
            pass: example.pass,
            fold: self.number.map(|(i, _)| i as u64),
            passed: threshold.map(|threshold| prediction >= threshold),
            melody: example.melody.clone(),
            criterion: None,
        }
    }

    /// What is said of the model, without what is learned from its predictions.
    fn model_info(&self, session: &Session<'_>, epochs: usize) -> ModelInfo {
        let Session { inputs, args, options, .. } = session;
        let (data, shown) = (session.data_name(), input_options(args));
        let info = ModelInfo::of((inputs, &data), self.split, &shown, options, epochs);
        let takes = if args.forget_takes { KnownTakes::default() } else { info.takes };
        ModelInfo { fold: self.number, takes, ..info }
    }
}
