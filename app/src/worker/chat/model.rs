//! A model that writes, on a device.

use std::ops::ControlFlow;
use std::rc::Rc;

use plume_core::cpu::Candle;
use plume_core::gpu::Gpu;
use plume_core::image::Rgb8;
use plume_core::prompts::Segment;
use plume_core::tasks::chat::{Answer, Chat, Look};
use plume_core::tasks::generate::Options;
use plume_core::tasks::score::Likelihood;
use plume_core::tasks::writer::{Words, Writer as Opened};
use plume_core::{DeviceError, Error};

use crate::protocol::chat::Writer;
use crate::protocol::{Device, PictureId};
use crate::worker::device::{Choice, memory};
use crate::worker::files::ModelFiles;
use crate::worker::now;

/// A chat on whichever device there is.
pub(super) enum Model {
    Cpu(Box<Chat<Candle>>),
    Gpu(Box<Chat<Gpu>>),
}

/// Calls the same method on whichever device there is.
macro_rules! on {
    ($model:expr, $chat:ident => $body:expr) => {
        match $model {
            Model::Cpu($chat) => $body,
            Model::Gpu($chat) => $body,
        }
    };
}

impl Model {
    /// Puts a model on a device.
    pub(super) async fn load(device: Device, files: ModelFiles) -> Result<(Self, Writer), Error> {
        let start = now();
        let (name, demo, weights) = (files.name.clone(), files.demo, files.bytes());
        let (config, checkpoint) = files.writer()?;
        let choice = Choice::of(device).await;
        let device = choice.name();
        let Choice { gpu, note } = choice;
        let model = match &gpu {
            Some(gpu) => {
                let writer = Opened::load(gpu, &config, &checkpoint)?;
                Self::Gpu(Box::new(Chat::new(writer).await?))
            }
            None => {
                let writer = Opened::load(&Candle::new(), &config, &checkpoint)?;
                Self::Cpu(Box::new(Chat::new(writer).await?))
            }
        };
        let writer = Writer {
            name,
            demo,
            gpu: gpu.is_some(),
            device,
            note,
            style: on!(&model, chat => chat.writer().style().clone()),
            context: on!(&model, chat => chat.context()),
            tokens_per_image: on!(&model, chat => chat.tokens_per_image())?,
            frames: on!(&model, chat => chat.frames())?,
            all_previous: on!(&model, chat => chat.all_previous())?,
            weights,
            bytes_per_token: on!(&model, chat => chat.bytes_per_token()) as f64,
            bytes_per_image: on!(&model, chat => chat.bytes_per_image())? as f64,
            gates: on!(&model, chat => chat.gates().to_vec()),
            milliseconds: now() - start,
            memory: f64::from(memory()),
        };
        Ok((model, writer))
    }

    /// Why its device is gone, if it is.
    pub(super) fn fault(&self) -> Option<DeviceError> {
        match self {
            Self::Cpu(_) => None,
            Self::Gpu(chat) => chat.writer().lm().backend().check().err(),
        }
    }

    /// Bytes of buffers on the graphics processor.
    pub(super) fn held(&self) -> f64 {
        match self {
            Self::Cpu(_) => 0.0,
            Self::Gpu(chat) => chat.writer().lm().backend().counters().held as f64,
        }
    }

    /// Tokens that end an answer.
    pub(super) fn stops(&self) -> Vec<u32> {
        on!(self, chat => chat.writer().stops().to_vec())
    }

    pub(super) fn has_seen(&self, id: PictureId) -> bool {
        on!(self, chat => chat.has_seen(&id.to_string()))
    }

    pub(super) async fn see(&mut self, id: PictureId, frames: &[Rgb8]) -> Result<(), Error> {
        on!(self, chat => chat.see(&id.to_string(), frames).await)
    }

    pub(super) fn forget(&mut self, id: PictureId) {
        on!(self, chat => chat.forget(&id.to_string()));
    }

    pub(super) fn words(&self) -> Rc<Words> {
        on!(self, chat => chat.writer().words().clone())
    }

    pub(super) fn context(&self) -> usize {
        on!(self, chat => chat.context())
    }

    pub(super) async fn write(
        &mut self,
        prompt: &[Segment],
        options: &Options,
        stops: &[String],
        each: impl AsyncFnMut(Option<&str>) -> ControlFlow<()>,
    ) -> Result<Answer, Error> {
        on!(self, chat => chat.write(prompt, options, stops, each).await)
    }

    pub(super) async fn score(
        &mut self,
        prompt: &[Segment],
        answers: &[String],
        each: impl AsyncFnMut() -> ControlFlow<()>,
    ) -> Result<Option<Vec<Likelihood>>, Error> {
        on!(self, chat => chat.score_while(prompt, answers, each).await)
    }

    pub(super) fn has_traced(&self, id: PictureId) -> bool {
        on!(self, chat => chat.has_traced(&id.to_string()))
    }

    pub(super) async fn trace(&mut self, id: PictureId, frames: &[Rgb8]) -> Result<(), Error> {
        on!(self, chat => chat.trace(&id.to_string(), frames).await)
    }

    pub(super) async fn look(
        &mut self,
        prompt: &[Segment],
        answer: &str,
        layers: &[usize],
    ) -> Result<Vec<Look>, Error> {
        on!(self, chat => chat.look(prompt, answer, layers).await)
    }

    /// Cells on a side of a picture.
    pub(super) fn side(&self) -> Result<usize, Error> {
        on!(self, chat => chat.side())
    }

    /// The part of a picture that it sees; see `Preprocess::shown`.
    pub(super) fn area(&self, sides: (u32, u32)) -> Result<[f32; 4], Error> {
        on!(self, chat => chat.area(sides.0 as usize, sides.1 as usize))
    }
}
