//! Which other pages of the chat there are. A page puts a picture in the database
//! at once and the words that show it a little later: only one that is alone may
//! delete what nothing shows. Every page shares one [lock] for as long as it
//! lives; one that comes in and gets it for itself is alone.
//!
//! [lock]: https://developer.mozilla.org/docs/Web/API/Web_Locks_API

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::Poll;

use futures_channel::oneshot;
use gloo_timers::future::TimeoutFuture;
use js_sys::{Function, Promise, Reflect};
use leptos::task::spawn_local;
use serde::{Deserialize, Serialize};
use wasm_bindgen::prelude::{Closure, wasm_bindgen};
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;

use crate::ui::web::window;

const NAME: &str = "plume-chat";
/// Milliseconds to wait for a lock: one whose page is frozen may never come.
const PATIENCE: u32 = 3000;

#[wasm_bindgen]
extern "C" {
    /// `navigator.locks`, which is not among what web-sys calls stable.
    type Locks;

    #[wasm_bindgen(method, catch)]
    fn request(
        this: &Locks,
        name: &str,
        options: &JsValue,
        granted: &JsValue,
    ) -> Result<Promise, JsValue>;

    #[wasm_bindgen(method, catch)]
    fn query(this: &Locks) -> Result<Promise, JsValue>;
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Mode {
    Shared,
    Exclusive,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Options {
    mode: Mode,
    if_available: bool,
}

/// The locks that are held, of any name.
#[derive(Deserialize)]
struct Snapshot {
    held: Vec<Lock>,
}

#[derive(Deserialize)]
struct Lock {
    name: String,
    mode: Mode,
}

/// No other page comes in until this is dropped.
pub(super) struct Alone(Function);

impl Drop for Alone {
    fn drop(&mut self) {
        // Asked for before the other is let go: no page can be alone in between.
        drop(share());
        let _ = self.0.call0(&JsValue::NULL);
    }
}

/// None where the page was not served securely.
fn locks() -> Option<Locks> {
    let locks = Reflect::get(&window().navigator(), &"locks".into()).ok()?;
    locks.is_object().then(|| locks.unchecked_into())
}

/// Asks for the lock. `granted` is given it, or null where it was to be had at
/// once and is not, and says with a promise for how long it is held.
fn request(mode: Mode, granted: impl FnOnce(JsValue) -> Promise + 'static) {
    let options = Options {
        mode,
        if_available: mode == Mode::Exclusive,
    };
    let Some((locks, options)) = locks().zip(serde_wasm_bindgen::to_value(&options).ok()) else {
        return;
    };
    let granted = Closure::once_into_js(granted);
    if let Ok(promise) = locks.request(NAME, &options, &granted) {
        spawn_local(async move {
            // A refusal is the same as none.
            let _ = JsFuture::from(promise).await;
        });
    }
}

/// Shares the lock from then on; tells when.
fn share() -> oneshot::Receiver<()> {
    let (here, comes) = oneshot::channel();
    request(Mode::Shared, move |_| {
        let _ = here.send(());
        Promise::new(&mut |_, _| {})
    });
    comes
}

/// Gets the lock for this page, where no other has it.
fn seize() -> oneshot::Receiver<Alone> {
    let (here, comes) = oneshot::channel();
    request(Mode::Exclusive, move |lock| {
        if lock.is_null() {
            return Promise::resolve(&lock);
        }
        let mut here = Some(here);
        Promise::new(&mut |let_go, _| {
            if let Some(here) = here.take() {
                // Where nobody waits any more it is let go at once.
                let _ = here.send(Alone(let_go));
            }
        })
    });
    comes
}

/// What comes, unless it takes too long.
async fn in_time<T>(comes: oneshot::Receiver<T>) -> Option<T> {
    let (mut comes, mut end) = (pin!(comes), TimeoutFuture::new(PATIENCE));
    poll_fn(|context| match comes.as_mut().poll(context) {
        Poll::Ready(done) => Poll::Ready(done.ok()),
        Poll::Pending => Pin::new(&mut end).poll(context).map(|()| None),
    })
    .await
}

/// Comes in, to read what is kept: alone, or beside others and after one that is
/// alone has done what it does.
pub(super) async fn enter() -> Option<Alone> {
    let alone = in_time(seize()).await;
    if alone.is_none() {
        in_time(share()).await;
    }
    alone
}

/// Whether no other page is there now; where that cannot be known, one may be.
pub(super) async fn is_alone() -> bool {
    let Some(Ok(promise)) = locks().map(|locks| locks.query()) else {
        return false;
    };
    let state = JsFuture::from(promise).await.ok();
    let state = state.and_then(|state| serde_wasm_bindgen::from_value::<Snapshot>(state).ok());
    let held = state.map_or_else(Vec::new, |state| state.held);
    // Once any is shared, so is the one of this page.
    let ours: Vec<_> = held.iter().filter(|lock| lock.name == NAME).collect();
    matches!(ours[..], [lock] if lock.mode == Mode::Shared)
}
