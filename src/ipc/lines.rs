//! Lines of bounded length, read so that giving up in the middle loses nothing.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::time::Instant;

/// How long a line that has begun may take to end. A line is written at once; who drips it holds memory for nothing.
const LINE_TIMEOUT: Duration = Duration::from_secs(30);
/// Buffers of lines longer than this are given back once the line is done.
const KEPT_CAPACITY: usize = 64 * 1024;

/// Why there is no further line.
#[derive(Debug, thiserror::Error)]
pub(super) enum LineError {
    #[error("a line of more than {0} bytes")]
    TooLong(usize),
    #[error("a line that did not end in {} seconds", LINE_TIMEOUT.as_secs())]
    TooSlow,
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// The lines of a stream.
pub(super) struct Lines<R> {
    reader: BufReader<R>,
    line: Vec<u8>,
    began: Option<Instant>,
    limit: usize,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    pub(super) fn new(reader: R, limit: usize) -> Self {
        Self { reader: BufReader::new(reader), line: Vec::new(), began: None, limit }
    }

    /// What the lines come from.
    pub(super) fn get_ref(&self) -> &R {
        self.reader.get_ref()
    }

    /// The next line, without its end; `None` at the end of the stream. What is left of a line when the stream ends was
    /// never finished, and is dropped. Cancelling loses nothing.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<u8>>, LineError> {
        loop {
            let available = match self.began {
                None => self.reader.fill_buf().await?,
                Some(began) => tokio::time::timeout_at(began + LINE_TIMEOUT, self.reader.fill_buf())
                    .await
                    .map_err(|_| LineError::TooSlow)??,
            };
            if available.is_empty() {
                return Ok(None);
            }
            let end = available.iter().position(|byte| *byte == b'\n');
            let taken = end.map_or(available.len(), |end| end + 1);
            if self.line.len() + end.unwrap_or(taken) > self.limit {
                return Err(LineError::TooLong(self.limit));
            }
            self.line.extend_from_slice(&available[..end.unwrap_or(taken)]);
            self.reader.consume(taken);
            if end.is_some() {
                self.began = None;
                let kept = if self.line.capacity() > KEPT_CAPACITY { 0 } else { self.line.capacity() };
                return Ok(Some(std::mem::replace(&mut self.line, Vec::with_capacity(kept))));
            }
            self.began.get_or_insert_with(Instant::now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_come_whole_and_an_unfinished_one_not_at_all() {
        let mut lines = Lines::new(&b"one\n\ntwo\nthr"[..], 10);
        assert_eq!(lines.next().await.unwrap().unwrap(), b"one");
        assert_eq!(lines.next().await.unwrap().unwrap(), b"");
        assert_eq!(lines.next().await.unwrap().unwrap(), b"two");
        assert_eq!(lines.next().await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_line_at_the_limit_is_taken_and_a_longer_one_refused() {
        let mut lines = Lines::new(&b"12345\n123456\n"[..], 5);
        assert_eq!(lines.next().await.unwrap().unwrap(), b"12345");
        assert!(matches!(lines.next().await, Err(LineError::TooLong(5))));
    }
}
