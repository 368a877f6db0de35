//! Files that desktops leave in directories.

/// Whether a file of this name is a desktop's own: what macOS and Windows put beside people's files.
pub(super) fn is_litter(name: &str) -> bool {
    name.starts_with("._")
        || [".DS_Store", "Thumbs.db", "desktop.ini"].iter().any(|own| name.eq_ignore_ascii_case(own))
}
