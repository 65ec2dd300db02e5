//! The chat: a Flamingo that is shown pictures and goes on with what is said.

mod model;
mod pictures;

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::rc::Rc;

use plume_core::prompts::Segment;
use plume_core::tasks::generate::{End, Method, Options};
use plume_core::tasks::score::ensemble;
use plume_core::tasks::writer::Words;
use plume_core::{DeviceError, Error};
use wasm_bindgen::JsValue;

use super::device::memory;
use super::files::FLAMINGO;
use super::{Shared, Worker, now, pause, post};
use crate::protocol::chat::{
    Ended, Gaze, How, Likely, News, Pace, Piece, Planned, STOPPED, Seen, Wish, Writer,
};
use crate::protocol::{Command, Device, Event, PictureId, RequestId, Which};
use model::Model;
use pictures::Held;

/// Everything the worker knows of the chat.
#[derive(Default)]
pub(super) struct State {
    model: Option<Model>,
    /// Its words, and the tokens of the longest text: here also while the model
    /// is at work.
    words: Option<(Rc<Words>, usize)>,
    pictures: HashMap<PictureId, Held>,
    /// What is being done is to end.
    stopped: bool,
    /// When the inbox was looked at last, in milliseconds.
    breath: f64,
}

impl State {
    fn drop_model(&mut self) {
        (self.model, self.words) = (None, None);
    }

    /// Embeddings of a model that classified before are of no use.
    pub(super) fn forget_embeddings(&mut self) {
        let held = self.pictures.values_mut();
        held.for_each(|held| held.embedding = None);
    }
}

/// Why a wish was not met.
enum Trouble {
    Core(Error),
    Words(String),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Core(error)
    }
}

impl From<String> for Trouble {
    fn from(words: String) -> Self {
        Self::Words(words)
    }
}

impl From<&str> for Trouble {
    fn from(words: &str) -> Self {
        Self::Words(words.to_owned())
    }
}

const NO_MODEL: &str = "no model that writes is loaded: load one";

/// Milliseconds after which the inbox is looked at while something is done, and
/// what was written meanwhile is told.
const BREATH: f64 = 16.0;

fn tell(news: News) {
    post(&Event::Chat(news));
}

/// To the chat.
fn loading(done: f64, total: f64) {
    tell(News::Loading { done, total });
}

/// What answers a command that waits and is not wanted any more; none where it is
/// still to be done.
fn left(command: &Command) -> Option<News> {
    let Command::Chat(wish) = command else {
        return None;
    };
    match *wish {
        Wish::Write { request, .. } => Some(News::Written {
            request,
            text: String::new(),
            ended: Ended::Stopped,
            pace: Pace::default(),
        }),
        Wish::Score { request, .. } | Wish::Choose { request, .. } | Wish::Look { request, .. } => {
            let message = STOPPED.to_owned();
            Some(News::Failed { request, message })
        }
        _ => None,
    }
}

/// What is done as soon as it comes; everything else waits in the inbox.
pub(super) fn receive(worker: &mut Worker, wish: Wish, payload: JsValue) {
    let queued = |other: &Command, wish: &Wish| match other {
        Command::Chat(other) => std::mem::discriminant(other) == std::mem::discriminant(wish),
        _ => false,
    };
    match &wish {
        Wish::Stop => {
            worker.chat.stopped = true;
            worker.inbox.retain(|(command, _)| match left(command) {
                Some(news) => {
                    tell(news);
                    false
                }
                None => true,
            });
            return;
        }
        // Whatever else is done.
        Wish::Plan { request, prompt } if worker.chat.words.is_some() => {
            return tell(plan(&worker.chat, *request, prompt));
        }
        // Only the last model counts.
        Wish::Load { .. } => worker.inbox.retain(|(other, _)| !queued(other, &wish)),
        _ => {}
    }
    if matches!(wish, Wish::Load { .. }) {
        worker.chat.stopped = true;
    }
    worker.inbox.push_back((Command::Chat(wish), payload));
}

/// Meets a wish.
pub(super) async fn meet(shared: &Shared, wish: Wish, payload: &JsValue) {
    {
        let mut worker = shared.borrow_mut();
        worker.chat.stopped = false;
        worker.chat.breath = now();
    }
    let (request, done) = match wish {
        Wish::Load {
            request,
            device,
            which,
        } => {
            let done = load(shared, device, which, payload).await;
            return tell(match done {
                Ok(writer) => News::Loaded {
                    request,
                    writer: Box::new(writer),
                },
                Err(message) => News::LoadFailed { request, message },
            });
        }
        Wish::See { id } => {
            pictures::keep(shared, id, payload);
            return pictures::see(shared, id).await;
        }
        Wish::Keep { id } => return pictures::keep(shared, id, payload),
        Wish::Forget { id } => return pictures::forget(shared, id),
        // Done as it comes.
        Wish::Stop => return,
        Wish::Plan { request, prompt } => {
            return tell(plan(&shared.borrow().chat, request, &prompt));
        }
        Wish::Write {
            request,
            prompt,
            how,
            max_new_tokens,
            repetition_penalty,
            stop,
        } => {
            let options = Options {
                max_new_tokens,
                method: method(how),
                repetition_penalty,
                stop_tokens: Vec::new(),
            };
            let done = write(shared, request, &prompt, options, &stop).await;
            (request, done)
        }
        Wish::Score {
            request,
            prompts,
            answers,
        } => (request, score(shared, request, &prompts, &answers).await),
        Wish::Choose {
            request,
            query,
            support,
            count,
        } => {
            let chosen = pictures::choose(shared, query, &support, count).await;
            let chosen = chosen.map_err(|trouble| settle(shared, trouble));
            (
                request,
                chosen.map(|chosen| News::Chosen { request, chosen }),
            )
        }
        Wish::Look {
            request,
            prompt,
            answer,
            layers,
        } => (
            request,
            look(shared, request, &prompt, &answer, &layers).await,
        ),
    };
    tell(done.unwrap_or_else(|message| News::Failed { request, message }));
}

/// Puts a model in the place of the one before; pictures stay.
async fn load(
    shared: &Shared,
    device: Device,
    which: Which,
    payload: &JsValue,
) -> Result<Writer, String> {
    let files = super::model_files(shared, (device, which), payload, (&FLAMINGO, loading)).await?;
    // The one before makes room; the page loads it again if this fails.
    shared.borrow_mut().chat.drop_model();
    let loaded = Model::load(device, files).await;
    let (model, writer) = loaded.map_err(|error| error.to_string())?;
    let chat = &mut shared.borrow_mut().chat;
    chat.words = Some((model.words(), model.context()));
    chat.model = Some(model);
    Ok(writer)
}

/// Takes the model out for the time of a job. A failure of the device ends it;
/// others leave it.
async fn attempt<T>(
    shared: &Shared,
    job: impl AsyncFnOnce(&mut Model) -> Result<T, Trouble>,
) -> Result<T, String> {
    let model = shared.borrow_mut().chat.model.take();
    let Some(mut model) = model else {
        return Err(NO_MODEL.to_owned());
    };
    let done = job(&mut model).await;
    if !matches!(&done, Err(Trouble::Core(Error::Device(_)))) {
        shared.borrow_mut().chat.model = Some(model);
    }
    done.map_err(|trouble| settle(shared, trouble))
}

/// The words for a trouble, and what follows from it.
fn settle(shared: &Shared, trouble: Trouble) -> String {
    match trouble {
        Trouble::Words(words) => words,
        Trouble::Core(Error::Device(error)) => {
            lost(shared, &error);
            error.to_string()
        }
        Trouble::Core(error) => error.to_string(),
    }
}

/// The device of the chat failed.
fn lost(shared: &Shared, error: &DeviceError) {
    shared.borrow_mut().chat.drop_model();
    tell(News::DeviceLost {
        message: error.to_string(),
    });
    super::lost_too(shared, error);
}

/// What became of the chat's device when another was lost.
pub(super) fn ask_device(shared: &Shared) {
    let chat = &mut shared.borrow_mut().chat;
    if let Some(error @ DeviceError::Lost(_)) = chat.model.as_ref().and_then(Model::fault) {
        chat.drop_model();
        tell(News::DeviceLost {
            message: error.to_string(),
        });
    }
}

/// Lets messages that wait be received, now and then; an error where one of
/// them said stop.
async fn breathe(shared: &Shared) -> Result<(), Trouble> {
    if now() - shared.borrow().chat.breath >= BREATH {
        pause(0).await;
        shared.borrow_mut().chat.breath = now();
    }
    if shared.borrow().chat.stopped {
        return Err(STOPPED.into());
    }
    Ok(())
}

/// A prompt by the names that the model knows pictures by.
fn segments(prompt: &[Piece]) -> Vec<Segment> {
    let segment = |piece: &Piece| match piece {
        Piece::Media(id) => Segment::Image(id.to_string()),
        Piece::Text(text) => Segment::Text(text.clone()),
    };
    prompt.iter().map(segment).collect()
}

fn method(how: How) -> Method {
    match how {
        How::Greedy => Method::Greedy,
        How::Sample {
            temperature,
            top_k,
            top_p,
            seed,
        } => Method::Sample {
            temperature,
            top_k,
            top_p,
            seed,
        },
        How::Beams {
            width,
            length_penalty,
        } => Method::Beams {
            width,
            length_penalty,
        },
    }
}

fn plan(state: &State, request: RequestId, prompt: &[Piece]) -> News {
    let Some((words, context)) = &state.words else {
        let message = NO_MODEL.to_owned();
        return News::Failed { request, message };
    };
    match words.plan(&segments(prompt)) {
        Ok(plan) => {
            let planned = Planned {
                text: plan.text,
                tokens: plan.tokens,
                total: plan.total,
                context: *context,
            };
            News::Planned { request, planned }
        }
        Err(error) => News::Failed {
            request,
            message: error.to_string(),
        },
    }
}

/// An answer as it comes.
struct Stream<'a> {
    shared: &'a Shared,
    request: RequestId,
    /// When it began.
    start: f64,
    /// Milliseconds until the first token.
    first: Option<f64>,
    /// Text that was not told yet.
    pending: String,
}

impl Stream<'_> {
    async fn each(&mut self, text: Option<&str>) -> ControlFlow<()> {
        if let Some(text) = text {
            // The first at once, the others as fast as they can be read.
            if self.first.is_none() {
                self.first = Some(now() - self.start);
                self.shared.borrow_mut().chat.breath = 0.0;
            }
            self.pending.push_str(text);
        }
        if now() - self.shared.borrow().chat.breath >= BREATH {
            self.flush();
        }
        match breathe(self.shared).await {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    }

    fn flush(&mut self) {
        if !self.pending.is_empty() {
            let text = std::mem::take(&mut self.pending);
            let request = self.request;
            tell(News::Text { request, text });
        }
    }
}

async fn write(
    shared: &Shared,
    request: RequestId,
    prompt: &[Piece],
    mut options: Options,
    stops: &[String],
) -> Result<News, String> {
    let mut stream = Stream {
        shared,
        request,
        start: now(),
        first: None,
        pending: String::new(),
    };
    let beams = matches!(options.method, Method::Beams { .. });
    let done = attempt(shared, async |model| {
        pictures::see_all(shared, model, prompt).await?;
        options.stop_tokens = model.stops();
        let each = async |text: Option<&str>| stream.each(text).await;
        let prompt = segments(prompt);
        let answer = model.write(&prompt, &options, stops, each).await?;
        Ok((answer, model.held()))
    })
    .await;
    // Also before an error: what was written stays.
    stream.flush();
    let (answer, gpu) = done?;
    let total = now() - stream.start;
    Ok(News::Written {
        request,
        text: answer.text,
        ended: match answer.end {
            End::Token => Ended::Itself,
            End::Length => Ended::Length,
            End::Told => Ended::Stopped,
        },
        pace: Pace {
            prompt: answer.prompt,
            written: answer.tokens,
            // Of beams no word is known before the last step.
            first: stream.first.filter(|_| !beams).unwrap_or(total),
            total,
            memory: f64::from(memory()),
            gpu,
        },
    })
}

async fn score(
    shared: &Shared,
    request: RequestId,
    prompts: &[Vec<Piece>],
    answers: &[String],
) -> Result<News, String> {
    attempt(shared, async |model| {
        if answers.iter().any(|answer| answer.trim().is_empty()) {
            return Err("an answer is empty: write something, or remove it".into());
        }
        let start = now();
        let each = async || match breathe(shared).await {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        };
        let mut scorings = Vec::with_capacity(prompts.len());
        for prompt in prompts {
            pictures::see_all(shared, model, prompt).await?;
            let scores = model.score(&segments(prompt), answers, each).await?;
            scorings.push(scores.ok_or(STOPPED)?);
        }
        let likely = ensemble(&scorings).into_iter().map(|mean| Likely {
            sum: mean.sum,
            mean: mean.mean,
        });
        Ok(News::Scored {
            request,
            likely: likely.collect(),
            milliseconds: now() - start,
        })
    })
    .await
}

async fn look(
    shared: &Shared,
    request: RequestId,
    prompt: &[Piece],
    answer: &str,
    layers: &[usize],
) -> Result<News, String> {
    attempt(shared, async |model| {
        pictures::see_all(shared, model, prompt).await?;
        for id in pictures::shown(prompt) {
            if !model.has_traced(id) {
                let frames = pictures::frames(shared, id).await?;
                model.trace(id, &frames).await?;
                breathe(shared).await?;
            }
        }
        let looks = model.look(&segments(prompt), answer, layers).await?;
        let side = model.side()?;
        let mut gazes = Vec::with_capacity(looks.len());
        for look in looks {
            let mut seen = Vec::with_capacity(look.seen.len());
            for one in look.seen {
                let Ok(picture) = one.picture.parse::<PictureId>() else {
                    continue;
                };
                let held = shared.borrow();
                let held = held.chat.pictures.get(&picture);
                let sides = held.and_then(|held| held.sides).unwrap_or((1, 1));
                seen.push(Seen {
                    picture,
                    share: one.share,
                    cells: one.cells,
                    columns: side,
                    rows: side,
                    area: model.area(sides)?,
                });
            }
            gazes.push(Gaze {
                word: look.word,
                seen,
            });
        }
        Ok(News::Looked { request, gazes })
    })
    .await
}
