//! A model that writes, with all that belongs to it: a language model, or a
//! Flamingo that is shown pictures.
//!
//! To open one: [`Weights::open`], then [`WriterConfig::of`] what the weights
//! or the texts beside them say, then [`Writer::load`] onto a device.

use std::rc::Rc;

use serde_json::{Value, json};

use crate::backend::Backend;
use crate::checkpoint::{
    Asked, Companions, Layout, Packed, Role, Scope, Source, Weights, added_tokens, asked,
    flamingo_config, lm_config, lm_layout,
};
use crate::config::VisionConfig;
use crate::config::flamingo::FlamingoConfig;
use crate::config::language::LmConfig;
use crate::image::{Preprocess, Rgb8};
use crate::models::flamingo::{Flamingo, Illustrated, Media};
use crate::models::lm::{Cache, Decoder, Lm, Pass};
use crate::prompts::{PromptStyle, Segment};
use crate::tensor::Tensor;
use crate::tokens::TextTokenizer;
use crate::{Error, Result};

/// Where our own `config.json` has the [`PromptStyle`].
const PROMPTS: &str = "prompts";
/// Where every `config.json` has the tokens that end a text: one, or a list.
const ENDS: &str = "eos_token_id";
/// What vocabularies call the end of a text, for a `config.json` without one.
const END_TOKENS: [&str; 2] = ["<|endoftext|>", "</s>"];

/// What IDEFICS-instruct has beyond IDEFICS's own tokens.
const END_OF_UTTERANCE: &str = "<end_of_utterance>";

/// A vocabulary's end of so many tokens may be what was added to it.
const MOST_ADDED: usize = 64;

/// Which model writes.
#[derive(Clone, Debug, PartialEq)]
pub enum WriterModel {
    /// A language model alone.
    Language(LmConfig),
    /// One that sees.
    Flamingo(Box<FlamingoConfig>, Preprocess),
}

/// Everything about a model that writes, apart from its weights.
#[derive(Clone, Debug, PartialEq)]
pub struct WriterConfig {
    /// The sizes, and how pictures are prepared.
    pub model: WriterModel,
    /// Whose names the weights have.
    pub layout: Layout,
    /// The `tokenizer.json`.
    pub tokenizer: String,
    /// How prompts are written.
    pub style: PromptStyle,
    /// Tokens that end a text.
    pub stops: Vec<u32>,
}

impl WriterConfig {
    /// What packed weights say of themselves, or else the texts that were
    /// published beside them.
    ///
    /// # Errors
    /// Where a text is missing or of another architecture.
    pub fn of(weights: &Weights, companions: &Companions, tokenizer: Option<&str>) -> Result<Self> {
        let Some(packed) = weights.packed() else {
            let missing = |name: &str| {
                Error::Config(format!(
                    "{name} is missing: take the one that was published beside the weights"
                ))
            };
            let config = companions.config.as_deref();
            return Self::read(
                config.ok_or_else(|| missing("config.json"))?,
                tokenizer.ok_or_else(|| missing("tokenizer.json"))?,
                companions.preprocessor_config.as_deref(),
            );
        };
        let tokenizer = tokenizer.or(packed.tokenizer.as_deref());
        let tokenizer = tokenizer
            .ok_or_else(|| Error::Config("the file was packed without a tokenizer".into()))?;
        let preprocess = packed.preprocess.as_ref().map(Value::to_string);
        Self::read(&packed.config.to_string(), tokenizer, preprocess.as_deref())
    }

    /// An OpenFlamingo that is put together: its sizes, and the tokenizer of
    /// its language model with its own two tokens.
    pub fn open_flamingo(
        config: FlamingoConfig,
        preprocess: Preprocess,
        tokenizer: String,
    ) -> Self {
        Self {
            stops: vec![config.end_of_chunk],
            model: WriterModel::Flamingo(Box::new(config), preprocess),
            layout: Layout::Canonical,
            tokenizer,
            style: PromptStyle::open_flamingo(),
        }
    }

    fn read(config: &str, tokenizer: &str, preprocess: Option<&str>) -> Result<Self> {
        let value: Value = serde_json::from_str(config)
            .map_err(|error| Error::Config(format!("config.json is not JSON: {error}")))?;
        let id = |value: &Value| u32::try_from(value.as_u64()?).ok();
        let mut stops: Vec<u32> = match value.get(ENDS) {
            Some(Value::Array(ids)) => ids.iter().filter_map(id).collect(),
            Some(one) => id(one).into_iter().collect(),
            None => Vec::new(),
        };
        // Those that are in it already are not added again.
        let tokenizer = match added_tokens(&value) {
            [] => tokenizer.to_owned(),
            tokens => TextTokenizer::with_special(tokenizer.as_bytes(), tokens)?,
        };
        let vocabulary = TextTokenizer::from_json(tokenizer.as_bytes())?;
        let published = flamingo_config(config, &|token| vocabulary.id(token))?;
        let (model, layout) = match published {
            Some((sizes, layout)) => {
                let size = sizes.vision.image_size();
                let preprocess = match preprocess {
                    // Its file names the sizes in its own way and leaves out
                    // what is always done.
                    _ if matches!(layout, Layout::Idefics { .. }) => Preprocess::idefics(size),
                    Some(json) => Preprocess::from_json(json, size)?,
                    None if matches!(sizes.vision, VisionConfig::Nfnet(_)) => {
                        Preprocess::flamingo(size)
                    }
                    None => Preprocess::clip(size, layout.family()),
                };
                if !stops.contains(&sizes.end_of_chunk) {
                    stops.push(sizes.end_of_chunk);
                }
                (WriterModel::Flamingo(Box::new(sizes), preprocess), layout)
            }
            None => {
                let sizes = lm_config(config)?;
                if stops.is_empty() {
                    stops.extend(END_TOKENS.iter().find_map(|name| vocabulary.id(name)));
                }
                let layout = lm_layout(config, &sizes)?;
                (WriterModel::Language(sizes), layout)
            }
        };
        let style = match (value.get(PROMPTS), layout) {
            (Some(style), _) => serde_json::from_value(style.clone())
                .map_err(|error| Error::Config(format!("{PROMPTS} of config.json: {error}")))?,
            (None, Layout::Idefics { .. }) if vocabulary.id(END_OF_UTTERANCE).is_some() => {
                PromptStyle::idefics_instruct()
            }
            (None, Layout::Idefics { .. }) => PromptStyle::idefics(),
            (None, Layout::FlamingoMini) => PromptStyle::flamingo_mini(),
            // OpenFlamingo under Otter's names has not learnt its words.
            (None, Layout::Otter(_)) if value["model_type"] == "otter" => PromptStyle::otter(),
            (None, _) => PromptStyle::open_flamingo(),
        };
        Ok(Self {
            model,
            layout,
            tokenizer,
            style,
            stops,
        })
    }

    /// The sizes of the language model.
    pub fn lm(&self) -> &LmConfig {
        match &self.model {
            WriterModel::Language(lm) => lm,
            WriterModel::Flamingo(flamingo, _) => &flamingo.lm,
        }
    }

    /// All of it as our own `config.json`.
    pub fn to_json(&self) -> Value {
        let mut value = match &self.model {
            WriterModel::Language(lm) => lm.to_json(),
            WriterModel::Flamingo(flamingo, _) => flamingo.to_json(),
        };
        value[PROMPTS] = json!(self.style);
        value[ENDS] = json!(self.stops);
        value
    }

    /// All of it as a packed file carries it.
    pub fn to_packed(&self) -> Packed {
        let preprocess = match &self.model {
            WriterModel::Language(_) => None,
            WriterModel::Flamingo(_, preprocess) => Some(preprocess.to_json()),
        };
        Packed {
            config: self.to_json(),
            preprocess,
            tokenizer: Some(self.tokenizer.clone()),
            ..Packed::default()
        }
    }

    /// The tensors that the model reads.
    ///
    /// # Errors
    /// Where the sizes make no model.
    pub fn asked(&self) -> Result<Vec<Asked>> {
        let mut all = asked(|device, source| Model::load(device, self, source))?;
        let role = self.table();
        for asked in &mut all {
            if ["lm.token_embedding", "lm.head"].contains(&asked.name.as_str()) {
                asked.role = role;
            }
        }
        Ok(all)
    }

    /// How tables of tokens are stored. Tokens that were added to a finished
    /// vocabulary, a Flamingo's own among them, stand at its end. Where all of
    /// its own stand elsewhere, the whole table is kept from being quantised.
    fn table(&self) -> Role {
        let WriterModel::Flamingo(config, _) = &self.model else {
            return Role::Weight;
        };
        let rows = config.lm.vocab_size;
        let last = |id: u32| (rows.saturating_sub(MOST_ADDED)..rows).contains(&(id as usize));
        let own = [config.image_token, config.end_of_chunk];
        if !own.into_iter().any(last) {
            return Role::Precise;
        }
        let tokenizer: Value = serde_json::from_str(&self.tokenizer).unwrap_or_default();
        let told = tokenizer["added_tokens"].as_array().into_iter().flatten();
        let told = told.filter_map(|token| u32::try_from(token["id"].as_u64()?).ok());
        let first = told.chain(own).filter(|&id| last(id)).min();
        Role::Table {
            added: first.map_or(0, |first| rows - first as usize),
        }
    }
}

enum Model<B: Backend> {
    Language(Box<Lm<B>>),
    Flamingo(Box<Flamingo<B>>, Preprocess),
}

impl<B: Backend> Model<B> {
    fn load(backend: &B, config: &WriterConfig, source: &dyn Source) -> Result<Self> {
        Ok(match &config.model {
            WriterModel::Language(lm) => {
                let scope = Scope::root(backend, source);
                Self::Language(Box::new(Lm::load(&scope.child("lm"), lm)?))
            }
            WriterModel::Flamingo(flamingo, preprocess) => {
                let flamingo = Flamingo::load(backend, flamingo, source)?;
                Self::Flamingo(Box::new(flamingo), preprocess.clone())
            }
        })
    }
}

/// The words of a model: how prompts are written, and the tokens that they
/// become. They can be asked while the model is busy.
pub struct Words {
    tokenizer: TextTokenizer,
    style: PromptStyle,
}

/// What a prompt becomes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The exact text that the tokenizer is given.
    pub text: String,
    /// Tokens of each segment.
    pub tokens: Vec<usize>,
    /// Tokens in all, the marks of the start included.
    pub total: usize,
}

impl Words {
    /// What a prompt becomes, without running it.
    ///
    /// # Errors
    /// Where the tokenizer fails.
    pub fn plan(&self, segments: &[Segment]) -> Result<Plan> {
        let style = &self.style;
        let end = |count: usize| style.text(&segments[..count]).len();
        let ends: Vec<usize> = (0..=segments.len()).map(end).collect();
        let places = self.places(segments)?;
        let mut tokens = vec![0; segments.len()];
        for place in places.iter().filter_map(|(_, place)| *place) {
            // What comes before the first segment belongs to none.
            let after = ends.partition_point(|&end| end <= place);
            if let Some(count) = after.checked_sub(1).and_then(|i| tokens.get_mut(i)) {
                *count += 1;
            }
        }
        Ok(Plan {
            text: style.text(segments),
            tokens,
            total: places.len(),
        })
    }

    fn ids(&self, segments: &[Segment]) -> Result<Vec<u32>> {
        let text = self.style.text(segments);
        Ok(self.tokenizer.encode(&text, self.whole())?)
    }

    fn places(&self, segments: &[Segment]) -> Result<Vec<(u32, Option<usize>)>> {
        let text = self.style.text(segments);
        Ok(self.tokenizer.places(&text, self.whole())?)
    }

    /// A style that has a start of its own needs none from the tokenizer.
    fn whole(&self) -> bool {
        self.style.start.is_empty()
    }
}

/// A model that writes, on a device.
pub struct Writer<B: Backend> {
    model: Model<B>,
    words: Rc<Words>,
    stops: Vec<u32>,
}

/// A prompt as the model is given it.
pub struct Prompt<B: Backend> {
    /// Its tokens.
    pub ids: Vec<u32>,
    media: Option<Media<B>>,
}

impl<B: Backend> Writer<B> {
    /// Reads every weight and copies it to the device, one at a time.
    ///
    /// # Errors
    /// Where a weight is missing, the tokenizer has more tokens than the model
    /// or the device fails.
    pub fn load(backend: &B, config: &WriterConfig, source: &dyn Source) -> Result<Self> {
        Ok(Self {
            words: Rc::new(Words {
                tokenizer: TextTokenizer::from_json(config.tokenizer.as_bytes())?,
                style: config.style.clone(),
            }),
            model: Model::load(backend, config, source)?,
            stops: config.stops.clone(),
        })
    }

    /// Its words.
    pub fn words(&self) -> &Rc<Words> {
        &self.words
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &TextTokenizer {
        &self.words.tokenizer
    }

    /// Tokens that end a text.
    pub fn stops(&self) -> &[u32] {
        &self.stops
    }

    /// How prompts are written.
    pub fn style(&self) -> &PromptStyle {
        &self.words.style
    }

    /// The language model.
    pub fn lm(&self) -> &Lm<B> {
        match &self.model {
            Model::Language(lm) => lm,
            Model::Flamingo(flamingo, _) => flamingo.lm(),
        }
    }

    /// The Flamingo, if it is one.
    pub fn flamingo(&self) -> Option<&Flamingo<B>> {
        match &self.model {
            Model::Language(_) => None,
            Model::Flamingo(flamingo, _) => Some(flamingo),
        }
    }

    pub(super) fn seeing(&self) -> Result<(&Flamingo<B>, &Preprocess)> {
        match &self.model {
            Model::Flamingo(flamingo, preprocess) => Ok((flamingo, preprocess)),
            Model::Language(_) => Err(Error::Blind),
        }
    }

    /// A picture, or the frames of a video, as visual tokens `[1, tokens,
    /// width]`: once for every prompt that shows it.
    ///
    /// # Errors
    /// Where the model does not see, there are no frames, or the device fails.
    pub fn see(&self, frames: &[Rgb8]) -> Result<Tensor<B>> {
        let (flamingo, preprocess) = self.seeing()?;
        let pixels: Vec<f32> = frames
            .iter()
            .flat_map(|frame| preprocess.apply(frame))
            .collect();
        flamingo.see(&pixels, &[frames.len()])
    }

    /// The tokens of a prompt.
    ///
    /// # Errors
    /// Where the tokenizer fails.
    pub fn ids(&self, segments: &[Segment]) -> Result<Vec<u32>> {
        self.words.ids(segments)
    }

    /// The tokens of a prompt, and the byte of its text at which each begins;
    /// see [`TextTokenizer::places`].
    ///
    /// # Errors
    /// Where the tokenizer fails.
    pub fn places(&self, segments: &[Segment]) -> Result<Vec<(u32, Option<usize>)>> {
        self.words.places(segments)
    }

    /// A prompt, with what [`Writer::see`] made of each of its pictures, in
    /// their order.
    ///
    /// # Errors
    /// Where there are more pictures than segments show, or fewer, or the model
    /// does not see.
    pub fn prompt(&self, segments: &[Segment], visual: &[Tensor<B>]) -> Result<Prompt<B>> {
        let marks = segments.iter().filter_map(Segment::pictures).count();
        if marks != visual.len() {
            return Err(Error::Pictures {
                marks,
                pictures: visual.len(),
            });
        }
        let media = match &self.model {
            Model::Language(_) if marks > 0 => return Err(Error::Blind),
            Model::Language(_) => None,
            Model::Flamingo(flamingo, _) => Some(match visual.split_first() {
                None => flamingo.no_media()?,
                Some((first, rest)) => {
                    if let Some(other) = rest.iter().find(|next| next.shape() != first.shape()) {
                        return Err(Error::Shape {
                            operation: "prompt",
                            expected: format!("visual tokens {:?} of each", first.shape()),
                            found: format!("{:?}", other.shape()),
                        });
                    }
                    let mut all = first.clone();
                    for next in rest {
                        all = Tensor::concat(&all, next)?;
                    }
                    let width = first.shape().last().copied().unwrap_or(1);
                    let tokens = first.len() / width;
                    flamingo.media(&all.reshape(&[visual.len(), tokens, width])?, 1)?
                }
            }),
        };
        Ok(Prompt {
            ids: self.ids(segments)?,
            media,
        })
    }

    /// The model with a prompt before it.
    ///
    /// # Errors
    /// Where marks and pictures of the prompt do not go together.
    pub fn reading<'a>(&'a self, prompt: &'a Prompt<B>) -> Result<Reading<'a, B>> {
        Ok(match (&self.model, &prompt.media) {
            (Model::Flamingo(flamingo, _), Some(media)) => {
                Reading::Flamingo(Illustrated::new(flamingo, media, &prompt.ids)?)
            }
            (Model::Language(lm), _) => Reading::Language(lm),
            (Model::Flamingo(flamingo, _), None) => Reading::Language(flamingo.lm()),
        })
    }
}

/// A model that goes on with a prompt.
pub enum Reading<'a, B: Backend> {
    /// Words alone.
    Language(&'a Lm<B>),
    /// With pictures.
    Flamingo(Illustrated<'a, B>),
}

impl<B: Backend> Decoder<B> for Reading<'_, B> {
    fn lm(&self) -> &Lm<B> {
        match self {
            Self::Language(lm) => lm,
            Self::Flamingo(flamingo) => flamingo.lm(),
        }
    }

    fn forward(
        &self,
        ids: &[u32],
        pass: &Pass<B>,
        cache: Option<&mut Cache<B>>,
    ) -> Result<Tensor<B>> {
        match self {
            Self::Language(lm) => lm.forward(ids, pass, cache),
            Self::Flamingo(flamingo) => flamingo.forward(ids, pass, cache),
        }
    }
}
