//! What is wrong with a configuration: where, why, and what would be right.

use serde::Serialize;
use std::{fmt, path::PathBuf, sync::Arc};

/// Where something was written. Lines and columns count from 1; a column counts characters.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
pub struct Place {
    pub file: Arc<PathBuf>,
    pub line: u32,
    pub column: u32,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file.display(), self.line, self.column)
    }
}
