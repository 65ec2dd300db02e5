//! Turns of a conversation in a checkpoint's words: any pictures and texts in
//! their order, where [`PromptStyle::few_shot`] knows one picture and one text.

use serde::{Deserialize, Serialize};

use super::{PromptStyle, Segment};

/// Which of a checkpoint's words stand around a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// What the pictures show, as in captioning.
    #[default]
    Describe,
    /// A question about them.
    Ask,
    /// Which class they belong to.
    Classify,
    /// None: the model goes on with the text as it stands.
    Free,
}

/// How much of a turn's answer stands in the prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said<'a> {
    /// Nothing: it is what is asked for.
    Nothing,
    /// Its beginning, as it was written; the model goes on with it.
    Part(&'a str),
    /// All of it.
    All(&'a str),
}

impl PromptStyle {
    /// A turn: pictures before the first word come before the checkpoint's own
    /// words, what follows stands in its order.
    pub fn turn(&self, task: Task, parts: &[Segment], said: Said<'_>) -> Vec<Segment> {
        let (before, after) = match task {
            Task::Free => ("", ""),
            Task::Ask => (self.question.0.as_str(), self.question.1.as_str()),
            Task::Describe | Task::Classify => ("", self.output.as_str()),
        };
        let is_text = |part: &Segment| matches!(part, Segment::Text(_));
        let leading = parts.iter().position(is_text).unwrap_or(parts.len());
        let mut segments = parts[..leading].to_vec();
        let mut text = before.to_owned();
        if task != Task::Free {
            text.insert_str(0, &self.after_image);
            match leading {
                0 => text.insert_str(0, &self.before),
                _ => segments.splice(..0, self.before()).for_each(drop),
            }
        }
        for (i, part) in parts.iter().enumerate().skip(leading) {
            match part {
                Segment::Text(words) if task == Task::Free => text.push_str(words),
                Segment::Text(words) => {
                    let words = if i == leading {
                        words.trim_start()
                    } else {
                        words
                    };
                    let last = i + 1 == parts.len();
                    text.push_str(if last { words.trim_end() } else { words });
                }
                Segment::Image(_) | Segment::Video(_) => {
                    if !text.is_empty() {
                        segments.push(Segment::Text(std::mem::take(&mut text)));
                    }
                    segments.push(part.clone());
                }
            }
        }
        text.push_str(after);
        match said {
            // The blank belongs to the first token of the answer.
            Said::Nothing => text.truncate(text.trim_end().len()),
            Said::Part(words) => {
                text.truncate(text.trim_end().len());
                text.push_str(words);
            }
            Said::All(words) => self.answered(task, &mut text, words),
        }
        if !text.is_empty() {
            segments.push(Segment::Text(text));
        }
        segments
    }

    fn answered(&self, task: Task, text: &mut String, answer: &str) {
        if task == Task::Free {
            let joined = text.is_empty()
                || text.ends_with(char::is_whitespace)
                || answer.starts_with(char::is_whitespace);
            if !joined {
                text.push(' ');
            }
            text.push_str(answer.trim_end());
        } else {
            text.push_str(answer.trim());
        }
        text.push_str(&self.end_of_chunk);
        if task != Task::Classify {
            text.push_str(&self.shot_end);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Ask, PromptStyle, Segment, Shot};
    use super::{Said, Task};

    fn picture(name: &str) -> Segment {
        Segment::Image(name.into())
    }

    fn words(text: &str) -> Segment {
        Segment::Text(text.into())
    }

    #[test]
    fn turns_of_one_picture_are_the_shots_of_each_checkpoint() {
        for style in [
            PromptStyle::open_flamingo(),
            PromptStyle::paper(),
            PromptStyle::idefics(),
            PromptStyle::idefics_instruct(),
        ] {
            let question = Ask::Question("how many?".into());
            let tasks = [
                (Task::Describe, Ask::Caption, vec![]),
                (Task::Ask, question, vec![words(" how many? ")]),
                (Task::Classify, Ask::Class, vec![]),
            ];
            for (task, ask, text) in tasks {
                let shot = Shot {
                    image: "a".into(),
                    ask: ask.clone(),
                    answer: " two ".into(),
                };
                let parts = |name| [vec![picture(name)], text.clone()].concat();
                let mut turns = style.turn(task, &parts("a"), Said::All(" two "));
                turns.extend(style.turn(task, &parts("b"), Said::Nothing));
                assert_eq!(
                    turns,
                    style.few_shot(std::slice::from_ref(&shot), "b", &ask)
                );
                // Without its picture a shot shows in words what is wanted.
                let mut turns = style.turn(task, &text, Said::All("two"));
                turns.extend(style.turn(task, &parts("b"), Said::Nothing));
                assert_eq!(turns, style.zero_shot(&[shot], "b", &ask));
            }
        }
    }

    #[test]
    fn pictures_and_words_keep_their_order() {
        let style = PromptStyle::open_flamingo();
        let parts = [
            picture("a"),
            words("is it like "),
            picture("b"),
            words(" or not? "),
        ];
        let turn = style.turn(Task::Ask, &parts, Said::Part(" It"));
        assert_eq!(
            turn,
            [
                picture("a"),
                words("Question:is it like "),
                picture("b"),
                words(" or not? Short answer: It"),
            ]
        );
        let free = style.turn(
            Task::Free,
            &[words("Two cats: "), picture("a")],
            Said::All("yes"),
        );
        assert_eq!(style.text(&free), "Two cats: <image>yes<|endofchunk|>\n");
        let free = style.turn(Task::Free, &[words("The colour is")], Said::All("red "));
        assert_eq!(free, [words("The colour is red<|endofchunk|>\n")]);
        let free = style.turn(Task::Free, &[words("The colour is ")], Said::Nothing);
        assert_eq!(free, [words("The colour is")]);
        assert!(style.turn(Task::Free, &[], Said::Nothing).is_empty());
    }
}
