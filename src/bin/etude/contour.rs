//! `etude contour`: the pitch of recordings, scores and f0 files.

use crate::args::ContourArgs;
use crate::failure::Failure;
use crate::options::source_options;
use crate::out::{print, say, tell};
use crate::{device, load};
use etude::audio::source::{Source, SourceOptions, read_source};
use etude::audio::{HOP, MelodyAgreement, Track};
use etude::names::shown;
use etude::report::plots::contour_svg;
use etude::{Error, Result, fs};
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

pub fn contour(args: &ContourArgs) -> Result<(), Failure> {
    let options = source_options(&args.f0, HOP);
    options.check()?;
    device::pool(args.threads)?;
    let against = match &args.against {
        Some(reference) => Some(read_source(reference, &options)?.track),
        None => None,
    };
    let Some(out) = &args.out else {
        if let Some(reference) = &against {
            return compare(&args.files, reference, &options);
        }
        let [file] = &args.files[..] else {
            let error = Error::config(format!("{} files, and one standard output", args.files.len()));
            return Err(Failure::hint("--out DIR writes a file and a picture of each")(error));
        };
        let source = read_source(file, &options)?;
        remark(file, &source);
        print(&source.track.csv(args.format));
        return Ok(());
    };
    let named = named(&args.files)?;
    std::fs::create_dir_all(out).map_err(Error::io(out, "create"))?;
    let progress = load::bar(named.len(), "listening");
    let write = |(name, file): (&OsString, &&PathBuf)| -> Option<Source> {
        let written = write(out, name, file, &options, args);
        progress.inc(1);
        progress.suspend(|| said(written))
    };
    let done: Vec<Option<Source>> = named.par_iter().map(write).collect();
    progress.finish_and_clear();
    if let Some(reference) = &against {
        let read = named.values().zip(&done).filter_map(|(file, source)| Some((*file, source.as_ref()?)));
        table(read, reference)?;
    }
    ended(&done)
}

/// What was read; of what was not, the reason is said.
fn said(read: Result<Source>) -> Option<Source> {
    read.inspect_err(|error| tell!("not read: {}", shown(&error.to_string(), 1000))).ok()
}

fn ended(done: &[Option<Source>]) -> Result<(), Failure> {
    match done.iter().filter(|read| read.is_none()).count() {
        0 => Ok(()),
        bad => Err(Error::config(format!("{bad} of {} files could not be read", done.len())).into()),
    }
}

/// Prints how far files agree with a reference, and nothing else.
fn compare(files: &[PathBuf], reference: &Track, options: &SourceOptions) -> Result<(), Failure> {
    let progress = load::bar(files.len(), "listening");
    let read = |file: &PathBuf| {
        let source = read_source(file, options).inspect(|source| remark(file, source));
        progress.inc(1);
        progress.suspend(|| said(source))
    };
    let done: Vec<Option<Source>> = files.par_iter().map(read).collect();
    progress.finish_and_clear();
    table(files.iter().zip(&done).filter_map(|(file, source)| Some((file, source.as_ref()?))), reference)?;
    ended(&done)
}

/// Prints the measures of files, a line each.
fn table<'a>(files: impl Iterator<Item = (&'a PathBuf, &'a Source)>, reference: &Track) -> Result<()> {
    say!("voicing recall\tfalse alarm\traw pitch\traw chroma\toverall\tfile");
    for (file, source) in files {
        let m = MelodyAgreement::of(reference, &source.track)?;
        say!(
            "{:.4}\t{:.4}\t{:.4}\t{:.4}\t{:.4}\t{}",
            m.voicing_recall,
            m.voicing_false_alarm,
            m.raw_pitch_accuracy,
            m.raw_chroma_accuracy,
            m.overall_accuracy,
            shown(&file.display().to_string(), 1000)
        );
    }
    Ok(())
}

/// The files by the names that theirs get, which no two of them share.
fn named(files: &[PathBuf]) -> Result<BTreeMap<OsString, &PathBuf>> {
    let mut named: BTreeMap<OsString, &PathBuf> = BTreeMap::new();
    for file in files {
        let name = file.file_stem().unwrap_or(file.as_os_str()).to_owned();
        if let Some(other) = named.insert(name, file) {
            let message = format!(
                "would be written to the same files as {}: name another --out for it",
                other.display()
            );
            return Err(Error::data(file, None, message));
        }
    }
    Ok(named)
}

fn write(
    out: &Path,
    name: &OsString,
    file: &Path,
    options: &SourceOptions,
    args: &ContourArgs,
) -> Result<Source> {
    let source = read_source(file, options)?;
    remark(file, &source);
    let to = |ending: &str| {
        let mut name = name.clone();
        name.push(ending);
        out.join(name)
    };
    fs::write_atomic(&to(".csv"), source.track.csv(args.format).as_bytes())?;
    let title = shown(&name.to_string_lossy(), 60).into_owned();
    let svg = contour_svg(&title, source.contour.pitch(), source.contour.hop())?;
    fs::write_atomic(&to(".svg"), svg.as_bytes())?;
    Ok(source)
}

/// Says what a file was read as.
fn remark(file: &Path, source: &Source) {
    let about: Vec<&str> = std::iter::once(&source.format).chain(&source.notes).map(String::as_str).collect();
    tell!("{}: {}", shown(&file.display().to_string(), 200), shown(&about.join("; "), 500));
}
