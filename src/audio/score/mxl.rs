//! Compressed MusicXML: a zip archive whose `META-INF/container.xml` names the score in it.

use roxmltree::Document;
use std::io::{Cursor, Read};
use zip::ZipArchive;

const CONTAINER: &str = "META-INF/container.xml";

/// What is unpacked at most, in bytes: a megabyte of zeros is a kilobyte in an archive.
const MAX_BYTES: u64 = 1 << 24;
const MAX_CONTAINER: u64 = 1 << 16;

/// Whether bytes are a zip archive with a container.
pub(super) fn is_mxl(bytes: &[u8]) -> bool {
    let name = CONTAINER.as_bytes();
    bytes.starts_with(b"PK\x03\x04") && bytes.windows(name.len()).any(|at| at == name)
}

/// The score in an archive.
pub(super) fn unpack(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let damaged =
        |reason: zip::result::ZipError| format!("{reason}: is the archive damaged? Export it again");
    let mut archive = ZipArchive::new(Cursor::new(bytes)).map_err(damaged)?;
    let mut file = |name: &str, limit: u64| -> Result<Vec<u8>, String> {
        let mut bytes = Vec::new();
        let inside = archive.by_name(name).map_err(damaged)?;
        inside.take(limit + 1).read_to_end(&mut bytes).map_err(|reason| damaged(reason.into()))?;
        if bytes.len() as u64 > limit {
            return Err(format!("{name} in the archive is larger than {limit} bytes: is it a score?"));
        }
        Ok(bytes)
    };
    let container = file(CONTAINER, MAX_CONTAINER)?;
    let text = String::from_utf8_lossy(&container);
    let container =
        Document::parse(&text).map_err(|reason| format!("{CONTAINER} in the archive: {reason}"))?;
    // The first is the score; others are renderings of it.
    let score = container.descendants().find(|node| node.tag_name().name() == "rootfile");
    let Some(score) = score.and_then(|node| node.attribute("full-path")) else {
        return Err(format!("{CONTAINER} in the archive names no score: export it again"));
    };
    file(score, MAX_BYTES)
}
