//! What is in a file besides entries, for whoever proves that it is what was written.

use std::{collections::BTreeMap, fs::File, path::PathBuf};

use mcap::records::{ChunkIndex, MetadataIndex};

use super::{
    Channel, Segment, entries, hot,
    summary::{of_summary, summary},
};
use crate::error::{Error, Result};

/// The summary of a sealed segment.
pub(crate) struct Summary {
    /// In the order in which the chunks stand.
    pub chunks: Vec<ChunkIndex>,
    pub metadata: Vec<MetadataIndex>,
    pub channels: BTreeMap<u16, Channel>,
}

impl Segment {
    /// The summary, without reading the rest; None if it has no whole one.
    pub(crate) fn summary(&self) -> Option<Summary> {
        let summary = summary(&self.path).filter(|_| !self.hot)?;
        let channels = summary.channels.iter().map(|(id, channel)| {
            let entries::Channel { subscription, kind } = of_summary(channel);
            (*id, (subscription, kind))
        });
        let channels = channels.collect();
        let (mut chunks, metadata) = (summary.chunk_indexes, summary.metadata_indexes);
        chunks.sort_by_key(|chunk| chunk.chunk_start_offset);
        summary.stats.map(|_| Summary { chunks, metadata, channels })
    }

    /// Opens it, and says which file that is: it may have been sealed since it was found, and have another
    /// name.
    pub(crate) fn open(&self) -> Result<(File, Self)> {
        match File::open(&self.path) {
            Ok(file) => Ok((file, self.clone())),
            Err(error) => {
                let path = if self.hot { hot::sealed_path(&self.path) } else { PathBuf::new() };
                match File::open(&path) {
                    Ok(file) => Ok((file, Self { path, hot: false, ..self.clone() })),
                    Err(_) => Err(self.unopened(Error::io("open", &self.path)(error))),
                }
            }
        }
    }
}
