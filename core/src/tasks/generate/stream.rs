//! Text as it comes.

use crate::Result;

/// Turns tokens into text as they come, in whole characters, and watches for
/// strings that end it.
pub struct TextStream<'a> {
    decode: &'a dyn Fn(&[u32]) -> Result<String>,
    stops: &'a [String],
    ids: Vec<u32>,
    /// Bytes of the text that have been given out.
    given: usize,
    text: String,
    stopped: bool,
}

impl<'a> TextStream<'a> {
    /// `decode` makes the text of all tokens so far.
    pub fn new(decode: &'a dyn Fn(&[u32]) -> Result<String>, stops: &'a [String]) -> Self {
        Self {
            decode,
            stops,
            ids: Vec::new(),
            given: 0,
            text: String::new(),
            stopped: false,
        }
    }

    /// One more token → the text that is certain now, perhaps none: part of a
    /// character waits for the rest, and so does what may begin a stop string.
    ///
    /// # Errors
    /// Where the tokens have no text.
    pub fn push(&mut self, id: u32) -> Result<String> {
        if self.stopped {
            return Ok(String::new());
        }
        self.ids.push(id);
        self.text = (self.decode)(&self.ids)?;
        let ends = self.stops.iter().filter(|stop| !stop.is_empty());
        if let Some(at) = ends.filter_map(|stop| self.text.find(stop.as_str())).min() {
            self.text.truncate(at);
            self.stopped = true;
            return Ok(self.give(self.text.len()));
        }
        let whole = self.text.trim_end_matches('\u{fffd}');
        let held = self
            .stops
            .iter()
            .map(|stop| overlap(whole, stop))
            .max()
            .unwrap_or(0);
        Ok(self.give(whole.len() - held))
    }

    /// What has been held back.
    pub fn finish(&mut self) -> String {
        self.give(self.text.len())
    }

    /// Whether a stop string has come.
    pub fn stopped(&self) -> bool {
        self.stopped
    }

    /// The text so far, without the string that ended it.
    pub fn text(&self) -> &str {
        &self.text
    }

    fn give(&mut self, end: usize) -> String {
        let from = self.given.min(end);
        self.given = self.given.max(end);
        self.text.get(from..end).unwrap_or_default().to_owned()
    }
}

/// Bytes at the end of `text` that begin `stop`.
fn overlap(text: &str, stop: &str) -> usize {
    let longest = stop.len().saturating_sub(1).min(text.len());
    let fits = |&len: &usize| {
        text.is_char_boundary(text.len() - len) && stop.starts_with(&text[text.len() - len..])
    };
    (1..=longest).rev().find(fits).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::TextStream;

    #[test]
    fn characters_come_whole_and_stops_are_watched_for() {
        // A character in two tokens, and a stop string in two.
        let pieces: [&[u8]; 6] = [b"a", &[0xc3], &[0xa9], b"b\n", b"\n", b"never"];
        let decode = |ids: &[u32]| {
            let bytes: Vec<u8> = ids
                .iter()
                .flat_map(|&id| pieces[id as usize].to_vec())
                .collect();
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        };
        let stops = ["\n\n".to_owned()];
        let mut stream = TextStream::new(&decode, &stops);
        let given: Vec<String> = (0..6).map(|id| stream.push(id).expect("text")).collect();
        assert_eq!(given, ["a", "", "é", "b", "", ""]);
        assert!(stream.stopped());
        assert_eq!(stream.text(), "aéb");
        let mut stream = TextStream::new(&decode, &stops);
        assert_eq!(stream.push(3).expect("text"), "b");
        assert_eq!(stream.finish(), "\n");
    }
}
