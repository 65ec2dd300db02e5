//! Documents of one's own: pictures and words in turn, one document in each
//! line of a file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, Result, bail, ensure};
use plume_core::prompts::Segment;
use rand::SeedableRng as _;
use rand::seq::IndexedRandom;
use serde::{Deserialize, Serialize};

use super::documents::Document;
use super::read;
use super::words::{END_OF_CHUNK, IMAGE, Words};
use crate::world::Rng;

/// A file of documents.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pages {
    /// Each line `{"segments": [{"image": "a.jpg"}, {"text": "…"}]}`; pictures
    /// are found from where the file lies.
    pub file: PathBuf,
    /// λ of the paper: what its loss counts (§2.4).
    pub weight: f32,
}

impl FromStr for Pages {
    type Err = String;

    /// `FILE`, or `FILE=WEIGHT`.
    fn from_str(text: &str) -> Result<Self, String> {
        let (file, weight) = match text.rsplit_once('=') {
            Some((file, weight)) => (file, weight.parse().ok()),
            None => (text, Some(1.0)),
        };
        match weight.filter(|weight: &f32| weight.is_finite() && *weight > 0.0) {
            Some(weight) if !file.is_empty() => Ok(Self {
                file: file.into(),
                weight,
            }),
            _ => Err("expected FILE, or FILE=WEIGHT with a weight above 0".into()),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    segments: Vec<Segment>,
}

/// The documents of a file.
pub(super) struct Book {
    documents: Vec<Document>,
    /// Their pictures, each once.
    pub(super) pictures: Vec<PathBuf>,
}

impl Pages {
    /// Reads them, for a language model that reads `context` tokens at once.
    ///
    /// # Errors
    /// Says which line is wrong, and how.
    pub(super) fn book(&self, words: &Words, context: usize) -> Result<Book> {
        let mut numbers = BTreeMap::new();
        let folder = self.file.parent().unwrap_or(Path::new(""));
        let mut number = |name: &String| {
            let path = folder.join(name);
            let next = numbers.len();
            ensure!(path.is_file(), "there is no picture {}", path.display());
            Ok(*numbers.entry(path).or_insert(next))
        };
        let mut documents = Vec::new();
        for (at, line) in read(&self.file)?.lines().enumerate() {
            if line.trim().is_empty() {
                continue;
            }
            let document = document(line, words, context, &mut number);
            let place = || format!("{}, line {}", self.file.display(), at + 1);
            documents.push(document.with_context(place)?);
        }
        ensure!(
            !documents.is_empty(),
            "{} holds no documents",
            self.file.display()
        );
        let mut pictures = vec![PathBuf::new(); numbers.len()];
        for (path, number) in numbers {
            pictures[number] = path;
        }
        Ok(Book {
            documents,
            pictures,
        })
    }
}

/// The tokens of a line. What belongs to a picture ends before the next one and
/// with the document (§2.3, App. A.3.3).
fn document(
    line: &str,
    words: &Words,
    context: usize,
    number: &mut dyn FnMut(&String) -> Result<usize>,
) -> Result<Document> {
    let Line { segments } = serde_json::from_str(line)?;
    let mut document = Document::default();
    let mut text = String::new();
    let end = |text: &mut String| {
        if !text.is_empty() && !text.ends_with(END_OF_CHUNK) && !text.ends_with(IMAGE) {
            text.push_str(END_OF_CHUNK);
        }
    };
    for segment in &segments {
        match segment {
            Segment::Image(name) => {
                end(&mut text);
                text.push_str(IMAGE);
                document.pictures.push(number(name)?);
            }
            Segment::Text(words) => text.push_str(words),
            Segment::Video(_) => bail!("videos are not trained on; give their frames as pictures"),
        }
    }
    end(&mut text);
    document.ids = words.tokenizer().encode(&text, true)?;
    let marks = document.ids.iter().filter(|&&id| id == words.image).count();
    let pictures = document.pictures.len();
    ensure!(pictures > 0, "a document needs a picture to tell of");
    ensure!(
        marks == pictures,
        "{marks} marks {IMAGE} for {pictures} pictures: a picture's mark is set by itself"
    );
    ensure!(
        document.ids.len() <= context,
        "{} tokens, and the language model reads {context}: make two documents of it",
        document.ids.len()
    );
    let counts = |(at, &id): (usize, &u32)| f32::from(at > 0 && id != words.image);
    document.weights = document.ids.iter().enumerate().map(counts).collect();
    document.tags = vec![None; document.ids.len()];
    ensure!(
        document.ids.last() != Some(&words.image),
        "no word follows the last picture"
    );
    Ok(document)
}

impl Book {
    /// So many documents, decided by the seed.
    pub(super) fn batch(&self, documents: usize, seed: u64) -> Vec<Document> {
        let mut rng = Rng::seed_from_u64(seed);
        let draws = (0..documents).filter_map(|_| self.documents.choose(&mut rng));
        draws.cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::words::tokenizer_json;

    fn words() -> Words {
        Words::new(&tokenizer_json().unwrap()).unwrap()
    }

    fn read(line: &str) -> Result<Document> {
        let mut seen = Vec::new();
        let mut number = |name: &String| {
            seen.push(name.clone());
            Ok(seen.len() - 1)
        };
        document(line, &words(), 40, &mut number)
    }

    #[test]
    fn what_belongs_to_a_picture_ends_before_the_next() {
        let words = words();
        let line = r#"{"segments": [{"image": "a"}, {"text": "Output:a red house"}, {"image": "b"},
            {"text": "Output:a blue fish<|endofchunk|>"}]}"#;
        let document = read(line).unwrap();
        let text = "<image>Output:a red house<|endofchunk|><image>Output:a blue fish<|endofchunk|>";
        assert_eq!(document.ids, words.tokenizer().encode(text, true).unwrap());
        assert_eq!(document.pictures, [0, 1]);
        // All that is written counts, the marks and the start do not.
        for (id, weight) in document.ids.iter().zip(&document.weights) {
            let given = [words.start, words.image].contains(id);
            assert_eq!(*weight, f32::from(!given), "{id}");
        }
    }

    #[test]
    fn what_is_no_document_is_told() {
        let long = format!(
            r#"{{"segments": [{{"image": "a"}}, {{"text": "{}"}}]}}"#,
            "a ".repeat(50)
        );
        for (line, message) in [
            (r#"{"segments": [{"text": "a house"}]}"#, "needs a picture"),
            (
                r#"{"segments": [{"image": "a"}, {"text": "<image>"}]}"#,
                "2 marks <image> for 1",
            ),
            (
                r#"{"segments": [{"text": "see"}, {"image": "a"}]}"#,
                "no word follows",
            ),
            (
                r#"{"segments": [{"video": ["a"]}, {"text": "x"}]}"#,
                "videos",
            ),
            (r#"{"segments": [{"picture": "a"}]}"#, "picture"),
            (r#"{"pieces": []}"#, "pieces"),
            ("a house", "expected"),
            (&long, "make two documents"),
        ] {
            let error = format!("{:#}", read(line).unwrap_err());
            assert!(error.contains(message), "{line}: {error}");
        }
    }

    #[test]
    fn a_weight_may_follow_the_file() {
        let pages = |text: &str| text.parse::<Pages>();
        assert_eq!(pages("a.jsonl").unwrap().weight, 1.0);
        let weighted = pages("a=b.jsonl=0.2").unwrap();
        assert_eq!((weighted.file, weighted.weight), ("a=b.jsonl".into(), 0.2));
        for wrong in ["a=0", "a=-1", "a=much", "=1", "a=inf"] {
            assert!(pages(wrong).is_err(), "{wrong}");
        }
    }
}
