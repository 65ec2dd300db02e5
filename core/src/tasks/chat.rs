//! A chat with a Flamingo. What it has been shown and what it has read are
//! kept, so that a turn costs only what is new in it.

mod look;

use std::collections::HashMap;
use std::ops::ControlFlow;

pub use look::{Look, Seen};

use super::generate::{End, Options, TextStream, write_on};
use super::score::{Likelihood, score_on};
use super::writer::{Plan, Writer};
use crate::backend::Backend;
use crate::image::Rgb8;
use crate::models::flamingo::{Flamingo, Illustrated, Media};
use crate::models::lm::Cache;
use crate::prompts::Segment;
use crate::{Error, Result};

/// Pictures that are remembered beyond those of the last prompt.
const SPARE: usize = 16;

/// A Flamingo, the pictures that it has been shown, and what it has read last.
pub struct Chat<B: Backend> {
    writer: Writer<B>,
    gates: Vec<(usize, f32, f32)>,
    /// What was made of each picture, by its name.
    pictures: HashMap<String, Media<B>>,
    /// Their names, the last one used last.
    used: Vec<String>,
    /// Those of the last prompt, in its order.
    shown: Option<Shown<B>>,
    read: Option<Read<B>>,
    /// What the visual tokens of pictures are made of: see [`look`].
    origins: HashMap<String, Vec<f32>>,
}

/// The names of pictures, and what was made of them all.
type Shown<B> = (Vec<String>, Media<B>);

/// What the language model has read last.
struct Read<B: Backend> {
    /// Its tokens, as far as the cache holds them.
    ids: Vec<u32>,
    /// The pictures of their marks, in their order.
    names: Vec<String>,
    cache: Cache<B>,
    /// What was written at the end of it.
    written: Vec<u32>,
}

/// A prompt as the language model is given it.
struct Prompt {
    ids: Vec<u32>,
    names: Vec<String>,
}

/// What was written after a prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Up to the string that ended it, if one did.
    pub text: String,
    /// Why it ended; a string counts as the model's own token.
    pub end: End,
    /// Tokens of the prompt.
    pub prompt: usize,
    /// Tokens that were written.
    pub tokens: usize,
}

/// The name of what is seen at a segment's mark: that of a picture; of a video
/// those of its frames, a line each.
fn name(segment: &Segment) -> Option<String> {
    segment.pictures().map(|names| names.join("\n"))
}

impl<B: Backend> Chat<B> {
    /// A chat in which nothing was said yet.
    ///
    /// # Errors
    /// Where the model does not see, or the device fails.
    pub async fn new(writer: Writer<B>) -> Result<Self> {
        let gates = writer.flamingo().ok_or(Error::Blind)?.gates().await?;
        Ok(Self {
            writer,
            gates,
            pictures: HashMap::new(),
            used: Vec::new(),
            shown: None,
            read: None,
            origins: HashMap::new(),
        })
    }

    /// The model, with its tokenizer and its way of writing prompts.
    pub fn writer(&self) -> &Writer<B> {
        &self.writer
    }

    fn flamingo(&self) -> Result<&Flamingo<B>> {
        self.writer.flamingo().ok_or(Error::Blind)
    }

    /// How far the gates of each layer between are open: see
    /// [`Flamingo::gates`].
    pub fn gates(&self) -> &[(usize, f32, f32)] {
        &self.gates
    }

    /// Tokens of the longest text.
    pub fn context(&self) -> usize {
        self.writer.lm().config().context
    }

    /// Visual tokens of a picture.
    ///
    /// # Errors
    /// Never: the model sees.
    pub fn tokens_per_image(&self) -> Result<usize> {
        Ok(self.flamingo()?.config().tokens_per_image())
    }

    /// Most frames of a video that it tells apart; 1 where it tells none.
    ///
    /// # Errors
    /// Never: the model sees.
    pub fn frames(&self) -> Result<usize> {
        let resampler = &self.flamingo()?.config().resampler;
        Ok(resampler.time_embeddings.max(1))
    }

    /// Whether a token sees every picture before it, not only the last.
    ///
    /// # Errors
    /// Never: the model sees.
    pub fn all_previous(&self) -> Result<bool> {
        Ok(self.flamingo()?.config().xattn.all_previous)
    }

    /// Bytes that a token of the prompt keeps.
    pub fn bytes_per_token(&self) -> usize {
        self.writer.lm().config().bytes_per_token()
    }

    /// Bytes that a picture keeps.
    ///
    /// # Errors
    /// Never: the model sees.
    pub fn bytes_per_image(&self) -> Result<usize> {
        Ok(self.flamingo()?.config().bytes_per_image())
    }

    /// Looks at a picture, or at the frames of a video, under a name; what had
    /// it before is forgotten. Waits until that is done.
    ///
    /// # Errors
    /// Where there are no frames, or more than one and the model takes no
    /// videos; where the device fails.
    pub async fn see(&mut self, name: &str, frames: &[Rgb8]) -> Result<()> {
        self.forget(name);
        let named = |names: &[String]| names.iter().any(|other| other == name);
        if self.read.as_ref().is_some_and(|read| named(&read.names)) {
            self.read = None;
        }
        let visual = self.writer.see(frames)?;
        let media = self.flamingo()?.media(&visual, 1)?;
        media.wait().await?;
        self.pictures.insert(name.to_owned(), media);
        self.used.push(name.to_owned());
        Ok(())
    }

    /// Forgets the pictures that were used longest ago, but none of a prompt that
    /// was read: a long conversation takes no more memory than what is read of
    /// it.
    fn tidy(&mut self, names: &[String]) {
        self.used.retain(|name| !names.contains(name));
        let spare = self.used.len().saturating_sub(SPARE);
        for name in self.used.drain(..spare).collect::<Vec<_>>() {
            self.forget(&name);
        }
        for name in names {
            if !self.used.contains(name) {
                self.used.push(name.clone());
            }
        }
    }

    /// Whether a picture has been looked at.
    pub fn has_seen(&self, name: &str) -> bool {
        self.pictures.contains_key(name)
    }

    /// Forgets a picture.
    pub fn forget(&mut self, name: &str) {
        self.pictures.remove(name);
        self.used.retain(|other| other != name);
        self.origins.remove(name);
        if let Some((names, _)) = &self.shown
            && names.iter().any(|other| other == name)
        {
            self.shown = None;
        }
    }

    /// What a prompt becomes, without running it.
    ///
    /// # Errors
    /// Where the tokenizer fails.
    pub fn plan(&self, segments: &[Segment]) -> Result<Plan> {
        self.writer.words().plan(segments)
    }

    /// Goes on with a prompt, whose pictures have been seen, with at most as
    /// many tokens as there is room for, up to one of `stops`. `each` is given
    /// what is certain of the text with every token, perhaps nothing, and may
    /// say that it is enough; before every step it is asked with `None`. It may
    /// wait, as for an inbox to be looked at.
    ///
    /// # Errors
    /// Where a picture has not been seen, marks and pictures do not go together,
    /// the prompt leaves no room, options make no sense or the device fails.
    pub async fn write(
        &mut self,
        segments: &[Segment],
        options: &Options,
        stops: &[String],
        mut each: impl AsyncFnMut(Option<&str>) -> ControlFlow<()>,
    ) -> Result<Answer> {
        let Prompt { mut ids, names } = self.prompt(segments)?;
        let room = self.context().saturating_sub(ids.len());
        let options = Options {
            // One too many, where there is none, is an error that says so.
            max_new_tokens: options.max_new_tokens.min(room.max(1)),
            ..options.clone()
        };
        let mut cache = self.remembered(&ids, &names, ids.len() - 1)?;
        let decoder = reading(&self.writer, &self.pictures, &mut self.shown, &names, &ids)?;
        let decode = |ids: &[u32]| Ok(self.writer.tokenizer().decode(ids)?);
        let mut stream = TextStream::new(&decode, stops);
        let mut fault = None;
        let written = write_on(&decoder, &mut cache, &ids, &options, async |token| {
            let Some(id) = token else {
                return each(None).await;
            };
            match stream.push(id) {
                Ok(text) if each(Some(&text)).await.is_continue() && !stream.stopped() => {
                    ControlFlow::Continue(())
                }
                Ok(_) => ControlFlow::Break(()),
                Err(error) => {
                    fault = Some(error);
                    ControlFlow::Break(())
                }
            }
        })
        .await?;
        if let Some(fault) = fault {
            return Err(fault);
        }
        if !stream.stopped() {
            let rest = stream.finish();
            // There is nothing more to stop.
            let _ = each(Some(&rest)).await;
        }
        let answer = Answer {
            text: stream.text().to_owned(),
            end: if stream.stopped() {
                End::Token
            } else {
                written.end
            },
            prompt: ids.len(),
            tokens: written.ids.len(),
        };
        ids.extend(&written.ids);
        ids.truncate(cache.len());
        self.tidy(&names);
        self.read = Some(Read {
            ids,
            names,
            cache,
            written: written.ids,
        });
        Ok(answer)
    }

    /// The log-likelihood of each answer after a prompt; a blank goes before
    /// each.
    ///
    /// # Errors
    /// As [`Chat::write`], and where an answer is empty.
    pub async fn score(
        &mut self,
        segments: &[Segment],
        answers: &[String],
    ) -> Result<Vec<Likelihood>> {
        let go_on = async || ControlFlow::Continue(());
        let scores = self.score_while(segments, answers, go_on).await?;
        Ok(scores.unwrap_or_default())
    }

    /// As [`Chat::score`]; none where `each`, asked before every pass, says that
    /// it is enough. It may wait, as for an inbox to be looked at.
    ///
    /// # Errors
    /// As [`Chat::score`].
    pub async fn score_while(
        &mut self,
        segments: &[Segment],
        answers: &[String],
        each: impl AsyncFnMut() -> ControlFlow<()>,
    ) -> Result<Option<Vec<Likelihood>>> {
        let tokenizer = self.writer.tokenizer();
        let encode = |answer: &String| tokenizer.encode(&format!(" {}", answer.trim()), false);
        let answers: Vec<_> = answers.iter().map(encode).collect::<Result<_, _>>()?;
        let Prompt { mut ids, names } = self.prompt(segments)?;
        let mut cache = self.remembered(&ids, &names, ids.len() - 1)?;
        let decoder = reading(&self.writer, &self.pictures, &mut self.shown, &names, &ids)?;
        let scores = score_on(&decoder, &mut cache, &ids, &answers, each).await?;
        if scores.is_none() {
            // How far it was read is not known: the next prompt begins anew.
            return Ok(None);
        }
        ids.truncate(cache.len());
        self.tidy(&names);
        self.read = Some(Read {
            ids,
            names,
            cache,
            written: Vec::new(),
        });
        Ok(scores)
    }

    fn prompt(&self, segments: &[Segment]) -> Result<Prompt> {
        let names: Vec<String> = segments.iter().filter_map(name).collect();
        if let Some(name) = names.iter().find(|name| !self.has_seen(name)) {
            return Err(Error::Unseen(name.clone()));
        }
        let ids = self.writer.ids(segments)?;
        if ids.is_empty() {
            return Err(Error::Config(
                "there is nothing to go on from: show a picture or write something".into(),
            ));
        }
        Ok(Prompt { ids, names })
    }

    /// The cache with as much of the beginning of a text as was read last, but
    /// no more than `most` tokens of it.
    fn remembered(&mut self, ids: &[u32], names: &[String], most: usize) -> Result<Cache<B>> {
        let Some(mut read) = self.read.take() else {
            return self.writer.lm().cache(ids.len(), &[0]);
        };
        let config = self.flamingo()?.config();
        let mut marks = 0;
        let same = |(a, b): &(&u32, &u32)| {
            if a != b || !config.is_image(**a) {
                return a == b;
            }
            let pictures = (read.names.get(marks), names.get(marks));
            marks += 1;
            matches!(pictures, (Some(a), Some(b)) if a == b)
        };
        let common = read.ids.iter().zip(ids).take_while(same).count();
        read.cache.truncate(common.min(most));
        Ok(read.cache)
    }
}

/// The model with a prompt before it and its pictures in order; those of the
/// last prompt that come first in this one stay together.
fn reading<'a, B: Backend>(
    writer: &'a Writer<B>,
    pictures: &HashMap<String, Media<B>>,
    shown: &'a mut Option<Shown<B>>,
    names: &[String],
    prompt: &[u32],
) -> Result<Illustrated<'a, B>> {
    let flamingo = writer.flamingo().ok_or(Error::Blind)?;
    let media = match shown.take() {
        Some((before, media)) if before == names => media,
        before => {
            let before =
                before.filter(|(before, _)| !before.is_empty() && names.starts_with(before));
            let known = before.as_ref().map_or(0, |(before, _)| before.len());
            let seen = |name| {
                let media = pictures.get(name);
                media.ok_or_else(|| Error::Unseen(String::clone(name)))
            };
            let rest = names[known..].iter().map(seen);
            let rest = rest.collect::<Result<Vec<_>>>()?;
            let first = before.as_ref().map(|(_, media)| media);
            flamingo.join(&first.into_iter().chain(rest).collect::<Vec<_>>())?
        }
    };
    let (_, media) = shown.insert((names.to_vec(), media));
    Illustrated::new(flamingo, media, prompt)
}
