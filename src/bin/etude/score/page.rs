//! The page of graded takes.

use super::scored::Graded;
use crate::claim::claim;
use crate::failure::Failure;
use crate::out::tell;
use crate::signals;
use etude::Result;
use etude::audio::recording::read_recording;
use etude::audio::source::is_recording;
use etude::data::listing::Listed;
use etude::model::ModelInfo;
use etude::names::shown;
use etude::report::files::{OutDir, PAGE};
use etude::report::page::{GradedTake, Grader, SOUND_RATE, ScoredPage, Sound};
use std::path::Path;

/// The page while it grows, and the directory that it is written to.
pub struct Page {
    out: OutDir,
    page: ScoredPage,
}

impl Page {
    /// Of what the model at this path grades, of which `about` says more than its record does. A directory that holds a page
    /// already is refused, but to be overwritten, and one that holds a run always.
    pub fn open(
        (out, overwrite): (&Path, bool),
        model: &Path,
        info: &ModelInfo,
        about: Option<&str>,
    ) -> Result<Self, Failure> {
        signals::watch()?;
        let out = claim(out, overwrite, &[PAGE])?;
        let name = model.file_name().unwrap_or(model.as_os_str()).to_string_lossy();
        let page = ScoredPage::new(&Grader {
            name: &name,
            criterion: &info.criterion,
            several: !info.criteria.is_empty(),
            version: &info.version,
            epochs: info.epochs,
            about,
            trained_on: info.trained_on.as_ref().map(|on| (on.data.as_str(), on.takes)),
            fold: info.fold,
            kind: info.input,
        });
        Ok(Self { out, page })
    }

    /// Adds takes, as they were graded.
    pub fn add(&mut self, takes: &[Listed], scores: &[Graded]) -> Result<()> {
        for (take, Graded { scored, told }) in takes.iter().zip(scores) {
            let (Some(grade), Some(told)) = (scored.grade, told) else {
                let error = scored.error.as_deref().unwrap_or("it has no grade");
                self.page.refuse(&take.id, error)?;
                continue;
            };
            self.page.add(&GradedTake {
                name: &take.id,
                grade,
                interval: scored.interval,
                pass: scored.pass,
                mark: scored.mark,
                criteria: &scored.criteria,
                contour: &told.contour,
                performed: told.performed.as_ref(),
                costs: &told.costs,
                sound: self.sound(&take.path, told.contour.seconds()),
            })?;
        }
        Ok(())
    }

    /// What is heard of a take, decoded once more: no more than one is held as samples.
    fn sound(&self, path: &Path, seconds: f64) -> Sound {
        let wav = || -> Result<Option<Vec<u8>>> {
            match is_recording(path)? {
                true => read_recording(path)?.wav(SOUND_RATE).map(Some),
                false => Ok(None),
            }
        };
        if !self.page.has_room(seconds) && is_recording(path).unwrap_or(false) {
            return Sound::LeftOut(
                "with that of the takes before it the page is as large as it may be".into(),
            );
        }
        match wav() {
            Ok(Some(bytes)) => Sound::Wav(bytes),
            Ok(None) => Sound::None,
            // It was there, and no grade is lost where it is no more.
            Err(error) => Sound::LeftOut(error.to_string()),
        }
    }

    /// Writes it, whole or not at all.
    pub fn write(self) -> Result<()> {
        self.out.write(PAGE, self.page.html()?.as_bytes())?;
        tell!("wrote {}", shown(&self.out.path().join(PAGE).display().to_string(), 1000));
        self.out.finish();
        Ok(())
    }
}
