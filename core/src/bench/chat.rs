//! How long one waits for the first word of an answer, after examples that are
//! new to the model or that it knows.

use std::ops::ControlFlow;

use serde::{Deserialize, Serialize};

use super::language::{Counters, TextTimes, writer_times};
use super::{Plan, Row, row};
use crate::backend::Backend;
use crate::image::Rgb8;
use crate::prompts::{Said, Segment, Task};
use crate::tasks::chat::Chat;
use crate::tasks::generate::{Method, Options};
use crate::tasks::writer::Writer;
use crate::{Error, Result};

/// Examples before what is asked, in the order tried.
const SHOTS: [usize; 3] = [0, 4, 8];
/// Words of the examples, in turn.
const ANSWERS: [&str; 2] = ["dako", "wefi"];

/// Pictures that [`chat_times`] shows: the examples, and two to ask about.
pub const PICTURES: usize = 10;

/// The first word after so many examples.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FirstWord {
    /// Examples.
    pub shots: usize,
    /// Tokens of the prompt.
    pub tokens: usize,
    /// Nothing is known: pictures are looked at, everything is read.
    pub fresh: Row,
    /// Every picture has been looked at, and the examples were read for another
    /// picture before: the next question of a conversation.
    pub next: Row,
}

/// What was measured of a chat.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChatTimes {
    /// Words alone.
    #[serde(flatten)]
    pub text: TextTimes,
    /// Looking at one picture.
    pub picture: Row,
    /// After examples.
    pub first: Vec<FirstWord>,
}

/// Measures a Flamingo with [`PICTURES`] pictures. `now` gives milliseconds.
///
/// # Errors
/// Where there are fewer pictures, or the device fails.
pub async fn chat_times<B: Backend>(
    writer: Writer<B>,
    pictures: &[Rgb8],
    plan: &Plan,
    clock: (&dyn Fn() -> f64, Counters<'_>),
) -> Result<ChatTimes> {
    let now = clock.0;
    let text = writer_times(&writer, plan, clock).await?;
    let mut chat = Chat::new(writer).await?;
    let [shots @ .., one, other] = pictures else {
        return Err(too_few());
    };
    let picture = measured(plan, now, async || see(&mut chat, "one", one).await).await?;
    let mut first = Vec::new();
    for count in SHOTS {
        let shown = shots.get(..count).ok_or_else(too_few)?;
        let asked = |name: &str| prompt(&chat, count, name);
        let (ask_one, ask_other) = (asked("one"), asked("other"));
        let tokens = chat.plan(&ask_one)?.total;
        let fresh = measured(plan, now, async || {
            // What is looked at anew is read anew.
            for (i, picture) in shown.iter().enumerate() {
                see(&mut chat, &i.to_string(), picture).await?;
            }
            see(&mut chat, "one", one).await?;
            first_word(&mut chat, &ask_one).await
        });
        let fresh = fresh.await?;
        see(&mut chat, "other", other).await?;
        let mut turn = false;
        let next = measured(plan, now, async || {
            turn = !turn;
            first_word(&mut chat, if turn { &ask_other } else { &ask_one }).await
        });
        first.push(FirstWord {
            shots: count,
            tokens,
            fresh,
            next: next.await?,
        });
    }
    Ok(ChatTimes {
        text,
        picture,
        first,
    })
}

fn too_few() -> Error {
    Error::Config(format!("a chat is measured with {PICTURES} pictures"))
}

async fn measured(
    plan: &Plan,
    now: &dyn Fn() -> f64,
    run: impl AsyncFnMut() -> Result<()>,
) -> Result<Row> {
    // Nothing came before that could have been too slow.
    let row = row(1, plan, &[], now, run).await?;
    row.ok_or_else(|| Error::Config("nothing was measured".into()))
}

async fn see<B: Backend>(chat: &mut Chat<B>, name: &str, picture: &Rgb8) -> Result<()> {
    chat.see(name, std::slice::from_ref(picture)).await
}

/// So many examples, named `0`, `1` and so on, and a picture that is asked
/// about.
fn prompt<B: Backend>(chat: &Chat<B>, shots: usize, asked: &str) -> Vec<Segment> {
    let style = chat.writer().style();
    let turn = |name: String, said| style.turn(Task::Classify, &[Segment::Image(name)], said);
    let answers = ANSWERS.into_iter().cycle();
    let shots = (0..shots).zip(answers);
    let shots = shots.flat_map(|(i, answer)| turn(i.to_string(), Said::All(answer)));
    shots.chain(turn(asked.to_owned(), Said::Nothing)).collect()
}

async fn first_word<B: Backend>(chat: &mut Chat<B>, prompt: &[Segment]) -> Result<()> {
    let options = Options {
        max_new_tokens: 1,
        method: Method::Greedy,
        repetition_penalty: 1.0,
        stop_tokens: Vec::new(),
    };
    let each = async |_: Option<&str>| ControlFlow::Continue(());
    chat.write(prompt, &options, &[], each).await?;
    Ok(())
}
