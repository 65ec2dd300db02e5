//! What a Flamingo is asked: text and pictures in turn, in the words that its
//! checkpoint was trained and measured with, and shots chosen by similarity.

use serde::{Deserialize, Serialize};

mod turn;

pub use turn::{Said, Task};

/// A piece of a prompt. In JSON: `{"image": "a.jpg"}`, `{"video": ["1.jpg",
/// "2.jpg"]}` or `{"text": "…"}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Segment {
    /// A picture, by the name of its file or another that the caller knows.
    Image(String),
    /// A video, as the pictures that were taken from it, in their order. It has
    /// one mark, and as many visual tokens as a picture (Flamingo §2.1).
    Video(Vec<String>),
    /// Text, special tokens included.
    Text(String),
}

impl Segment {
    /// The pictures that are seen at this piece's mark: one, the frames of a
    /// video, or no mark and none.
    pub fn pictures(&self) -> Option<&[String]> {
        match self {
            Self::Image(name) => Some(std::slice::from_ref(name)),
            Self::Video(frames) => Some(frames),
            Self::Text(_) => None,
        }
    }
}

/// How a checkpoint writes prompts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PromptStyle {
    /// What every prompt begins with.
    pub start: String,
    /// What stands for a picture.
    pub image: String,
    /// What stands before and after a picture; pictures that follow one another
    /// share what is between them.
    pub around_image: String,
    /// What ends the text that belongs to a picture.
    pub end_of_chunk: String,
    /// Spaces around a text are left out, but no other blanks.
    pub trim: bool,
    /// What a turn begins with, before its pictures.
    #[serde(default)]
    pub before: String,
    /// What stands between a picture's mark and what is asked of it.
    pub after_image: String,
    /// Before a caption or a class.
    pub output: String,
    /// Before a question, and between it and its answer.
    pub question: (String, String),
    /// Before the words on a picture, and after them, for whether it is
    /// hateful.
    pub hateful: (String, String),
    /// After each captioned or answered shot; classified ones have none.
    pub shot_end: String,
}

/// What is asked of a picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// What it shows.
    Caption,
    /// A question.
    Question(String),
    /// Which class it belongs to.
    Class,
    /// Whether it is hateful, with these words on it.
    Hateful(String),
}

/// A picture, what is asked of it, and the right answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shot {
    /// The name of the picture.
    pub image: String,
    /// What is asked.
    pub ask: Ask,
    /// What is answered.
    pub answer: String,
}

impl PromptStyle {
    /// OpenFlamingo's, of every size (`eval/models/open_flamingo.py`).
    pub fn open_flamingo() -> Self {
        Self {
            start: String::new(),
            image: "<image>".into(),
            around_image: String::new(),
            end_of_chunk: "<|endofchunk|>".into(),
            trim: false,
            before: String::new(),
            after_image: String::new(),
            output: "Output:".into(),
            question: ("Question:".into(), " Short answer:".into()),
            hateful: (
                "is an image with: '".into(),
                "' written on it. Is it hateful? Answer:".into(),
            ),
            shot_end: "\n".into(),
        }
    }

    /// The paper's (App. B.1.5).
    pub fn paper() -> Self {
        Self {
            start: "<BOS>".into(),
            end_of_chunk: "<EOC>".into(),
            output: "Output: ".into(),
            question: ("Question: ".into(), " Answer: ".into()),
            hateful: (
                "is an image with written: \"".into(),
                "\" on it. Is it hateful? Answer: ".into(),
            ),
            shot_end: String::new(),
            ..Self::open_flamingo()
        }
    }

    /// flamingo-mini's, which was trained on captions alone
    /// (`flamingo_processor.py`).
    pub fn flamingo_mini() -> Self {
        Self {
            start: "</s>".into(),
            output: String::new(),
            ..Self::paper()
        }
    }

    /// Otter's (its README).
    pub fn otter() -> Self {
        Self {
            output: "User: what does the image describe? GPT:<answer>".into(),
            question: ("User: ".into(), " GPT:<answer>".into()),
            shot_end: String::new(),
            ..Self::open_flamingo()
        }
    }

    /// IDEFICS's (`processing_idefics.py`). It knows no token that ends a chunk:
    /// turns are lines.
    pub fn idefics() -> Self {
        Self {
            start: "<s>".into(),
            around_image: "<fake_token_around_image>".into(),
            end_of_chunk: "\n".into(),
            trim: true,
            shot_end: String::new(),
            ..Self::open_flamingo()
        }
    }

    /// IDEFICS-instruct's (its model card): a dialogue.
    pub fn idefics_instruct() -> Self {
        let answer = "<end_of_utterance>\nAssistant: ";
        Self {
            before: "User:".into(),
            output: format!("What is in this image?{answer}"),
            question: (String::new(), answer.into()),
            hateful: (
                "It is an image with written: \"".into(),
                format!("\" on it. Is it hateful?{answer}"),
            ),
            end_of_chunk: "<end_of_utterance>".into(),
            shot_end: "\n".into(),
            ..Self::idefics()
        }
    }

    /// The text that a tokenizer is given; pictures and videos are those of the
    /// segments, in their order.
    pub fn text(&self, segments: &[Segment]) -> String {
        let mut text = self.start.clone();
        let mut after_image = false;
        for segment in segments {
            match segment {
                Segment::Image(_) | Segment::Video(_) => {
                    if !after_image {
                        text.push_str(&self.around_image);
                    }
                    text.push_str(&self.image);
                    text.push_str(&self.around_image);
                    after_image = true;
                }
                Segment::Text(words) => {
                    text.push_str(if self.trim {
                        words.trim_matches(' ')
                    } else {
                        words
                    });
                    after_image = false;
                }
            }
        }
        text
    }

    /// What is asked, up to where the answer begins.
    fn ask(&self, ask: &Ask) -> String {
        match ask {
            Ask::Caption | Ask::Class => self.output.clone(),
            Ask::Question(question) => {
                format!("{}{question}{}", self.question.0, self.question.1)
            }
            Ask::Hateful(words) => format!("{}{words}{}", self.hateful.0, self.hateful.1),
        }
    }

    /// Shots, then a picture and what is asked of it.
    pub fn few_shot(&self, shots: &[Shot], image: &str, ask: &Ask) -> Vec<Segment> {
        let mut segments = Vec::new();
        for shot in shots {
            segments.extend(self.before());
            segments.push(Segment::Image(shot.image.clone()));
            segments.push(Segment::Text(self.shot(shot)));
        }
        segments.extend(self.query(image, ask));
        segments
    }

    /// Without pictures to learn from: the shots (two, as a rule) show in words
    /// alone what an answer looks like (App. B.1.5).
    pub fn zero_shot(&self, shots: &[Shot], image: &str, ask: &Ask) -> Vec<Segment> {
        let text = |shot| Segment::Text(format!("{}{}", self.before, self.shot(shot)));
        let texts = shots.iter().map(text);
        texts.chain(self.query(image, ask)).collect()
    }

    /// What is written of an answer before its chunk ends, for checkpoints that
    /// have no token for that end.
    pub fn before_end<'a>(&self, written: &'a str) -> &'a str {
        match written.find(&self.end_of_chunk) {
            Some(end) if !self.end_of_chunk.is_empty() => &written[..end],
            _ => written,
        }
    }

    fn before(&self) -> Option<Segment> {
        (!self.before.is_empty()).then(|| Segment::Text(self.before.clone()))
    }

    fn shot(&self, shot: &Shot) -> String {
        let asked = self.ask(&shot.ask);
        let end = match shot.ask {
            Ask::Caption | Ask::Question(_) => self.shot_end.as_str(),
            Ask::Class | Ask::Hateful(_) => "",
        };
        let answer = shot.answer.trim();
        format!(
            "{}{asked}{answer}{}{end}",
            self.after_image, self.end_of_chunk
        )
    }

    /// The blanks that belong to the first token of an answer, rather than to
    /// what is asked.
    pub fn before_answer(&self, ask: &Ask) -> String {
        let asked = self.ask(ask);
        asked[asked.trim_end().len()..].to_owned()
    }

    fn query(&self, image: &str, ask: &Ask) -> impl Iterator<Item = Segment> {
        let asked = format!("{}{}", self.after_image, self.ask(ask));
        // The blank belongs to the first token of the answer.
        let asked = asked.trim_end().to_owned();
        let query = [Segment::Image(image.to_owned()), Segment::Text(asked)];
        self.before().into_iter().chain(query)
    }
}

/// The `n` of the support that are most like the query, the most similar last
/// (RICES, Yang et al. 2022; App. B.1.5): embeddings of length one.
pub fn rices(query: &[f32], support: &[Vec<f32>], n: usize) -> Vec<usize> {
    let likeness = |embedding: &Vec<f32>| -> f64 {
        let pairs = query.iter().zip(embedding);
        pairs.map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
    };
    let mut ranked: Vec<(usize, f64)> = support.iter().map(likeness).enumerate().collect();
    ranked.sort_by(|a, b| b.1.total_cmp(&a.1));
    ranked.truncate(n);
    ranked.into_iter().rev().map(|(i, _)| i).collect()
}

#[cfg(test)]
mod tests {
    use super::{Ask, PromptStyle, Segment, Shot, rices};

    fn shot(image: &str, ask: Ask, answer: &str) -> Shot {
        Shot {
            image: image.into(),
            ask,
            answer: answer.into(),
        }
    }

    #[test]
    fn open_flamingos_prompts_are_those_of_its_evaluation() {
        let style = PromptStyle::open_flamingo();
        let caption = shot("a.jpg", Ask::Caption, "a cat ");
        let segments = style.few_shot(std::slice::from_ref(&caption), "b.jpg", &Ask::Caption);
        assert_eq!(
            style.text(&segments),
            "<image>Output:a cat<|endofchunk|>\n<image>Output:"
        );
        let question = Ask::Question("how many?".into());
        let vqa = shot("a.jpg", question.clone(), "2");
        assert_eq!(
            style.text(&style.few_shot(&[vqa], "b.jpg", &question)),
            "<image>Question:how many? Short answer:2<|endofchunk|>\n\
             <image>Question:how many? Short answer:"
        );
        assert_eq!(
            style.text(&style.zero_shot(&[caption.clone(), caption], "b.jpg", &Ask::Caption)),
            "Output:a cat<|endofchunk|>\nOutput:a cat<|endofchunk|>\n<image>Output:"
        );
        let class = shot("a.jpg", Ask::Class, "tench");
        assert_eq!(
            style.text(&style.few_shot(&[class], "b.jpg", &Ask::Class)),
            "<image>Output:tench<|endofchunk|><image>Output:"
        );
        let hateful = shot("a.jpg", Ask::Hateful("hi".into()), "no");
        assert_eq!(
            style.text(&style.zero_shot(&[hateful], "b.jpg", &Ask::Class)),
            "is an image with: 'hi' written on it. Is it hateful? Answer:no<|endofchunk|>\
             <image>Output:"
        );
    }

    #[test]
    fn the_papers_prompts_have_a_start_and_blanks() {
        let style = PromptStyle::paper();
        let shots = [
            shot("a.jpg", Ask::Caption, "A"),
            shot("b.jpg", Ask::Caption, "B"),
        ];
        assert_eq!(
            style.text(&style.zero_shot(&shots, "c.jpg", &Ask::Caption)),
            "<BOS>Output: A<EOC>Output: B<EOC><image>Output:"
        );
        assert_eq!(style.before_answer(&Ask::Caption), " ");
        assert_eq!(PromptStyle::open_flamingo().before_answer(&Ask::Class), "");
    }

    #[test]
    fn idefics_pictures_share_what_is_between_them() {
        let json = r#"[{"image": "a.jpg"}, {"image": "b.jpg"}, {"text": " two cats "}]"#;
        let segments: Vec<Segment> = serde_json::from_str(json).expect("segments");
        assert_eq!(
            PromptStyle::idefics().text(&segments),
            "<s><fake_token_around_image><image><fake_token_around_image><image>\
             <fake_token_around_image>two cats"
        );
    }

    /// Lines end in one newline, which no trimming takes; of the dialogue, the
    /// text is that of the model card's example.
    #[test]
    fn idefics_turns_are_lines_or_a_dialogue() {
        let caption = shot("a.jpg", Ask::Caption, "a cat");
        let style = PromptStyle::idefics();
        let picture = "<fake_token_around_image><image><fake_token_around_image>";
        assert_eq!(
            style.text(&style.few_shot(std::slice::from_ref(&caption), "b.jpg", &Ask::Caption)),
            format!("<s>{picture}Output:a cat\n{picture}Output:")
        );
        assert_eq!(
            style.text(&style.zero_shot(&[caption.clone(), caption], "b.jpg", &Ask::Caption)),
            format!("<s>Output:a cat\nOutput:a cat\n{picture}Output:")
        );
        assert_eq!(style.before_end(" a dog\nOutput: b"), " a dog");
        let style = PromptStyle::idefics_instruct();
        let question = Ask::Question("And who is that?".into());
        let picture_of = shot("a.jpg", Ask::Caption, " This picture depicts Idefix.");
        assert_eq!(
            style.text(&style.few_shot(&[picture_of], "b.jpg", &question)),
            format!(
                "<s>User:{picture}What is in this image?<end_of_utterance>\n\
                 Assistant: This picture depicts Idefix.<end_of_utterance>\n\
                 User:{picture}And who is that?<end_of_utterance>\nAssistant:"
            )
        );
    }

    #[test]
    fn a_video_has_one_mark() {
        let json = r#"[{"video": ["1.jpg", "2.jpg"]}, {"text": "Output:"}, {"image": "a.jpg"}]"#;
        let segments: Vec<Segment> = serde_json::from_str(json).expect("segments");
        let text = PromptStyle::open_flamingo().text(&segments);
        assert_eq!(text, "<image>Output:<image>");
        let pictures: Vec<_> = segments.iter().filter_map(Segment::pictures).collect();
        assert_eq!(pictures, [&["1.jpg", "2.jpg"][..], &["a.jpg"]]);
    }

    #[test]
    fn the_most_similar_shot_comes_last() {
        let support = vec![
            vec![1.0, 0.0],
            vec![0.0, 1.0],
            vec![0.8, 0.6],
            vec![-1.0, 0.0],
        ];
        assert_eq!(rices(&[0.6, 0.8], &support, 3), [0, 1, 2]);
        assert_eq!(rices(&[0.6, 0.8], &support, 9).len(), 4);
    }
}
