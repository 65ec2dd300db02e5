//! Bringing a model here: what is asked of the hub, how far it is, and why it
//! stopped.

use std::cell::Cell;

use plume_core::hub::{Hub, HubError, Plan, resolve};
use wasm_bindgen_futures::spawn_local;
use web_sys::AbortController;

use super::Library;
use super::download::{Download, PATIENCE, Stop};
use super::net::Net;
use super::store::{Manifest, Refusal, Store};
use crate::protocol::{Event, Fit, Place};
use crate::worker::{now, pause, post};

/// Milliseconds between two words about progress.
const TELL: f64 = 250.0;

impl Library {
    /// Starts or goes on with a download of which the person knows whether it
    /// fits.
    pub(in crate::worker) fn download(&self, id: &str) {
        self.start(id, true);
    }

    /// The same; one that does not fit only where it is wanted `anyway`.
    pub(super) fn start(&self, id: &str, anyway: bool) {
        if self.0.borrow().running.contains_key(id) {
            return;
        }
        let Ok(abort) = AbortController::new() else {
            return;
        };
        let signal = abort.signal();
        self.0.borrow_mut().running.insert(id.to_owned(), abort);
        let (library, id) = (self.clone(), id.to_owned());
        spawn_local(async move {
            let stop = library.bring(&id, &signal, anyway).await;
            library.0.borrow_mut().running.remove(&id);
            if let Err(stop) = stop {
                library.stopped(&id, stop).await;
            }
            library.measure().await;
        });
    }

    /// Says why, and what is here.
    async fn stopped(&self, id: &str, stop: Stop) {
        let full = matches!(stop, Stop::Here(Refusal::Full));
        if full {
            let there = self.0.borrow().store.is_some();
            let storage = Store::estimate(there).await;
            self.0.borrow_mut().storage = storage;
        }
        let message = match stop {
            Stop::Asked => None,
            Stop::Unfit(why) => {
                let name = self.with(id, |entry| entry.model.name.clone());
                post(&Event::LibraryFailed {
                    message: format!(
                        "{} was not downloaded, as it does not fit this device: it {why}. \
                         “Download anyway” beside it does so all the same.",
                        name.unwrap_or_default()
                    ),
                });
                None
            }
            Stop::Hub(error) => {
                // The next try asks the hub what it is now.
                if matches!(error, HubError::Changed { .. } | HubError::Hash { .. }) {
                    self.with(id, |entry| entry.plan = None);
                }
                Some(error.to_string())
            }
            Stop::Here(Refusal::Other(message)) => Some(message),
            Stop::Here(Refusal::Full) => Some(self.no_room(id)),
        };
        let plan = self.with(id, |entry| entry.plan.clone()).flatten();
        let store = self.0.borrow().store.clone();
        let (done, total) = match (store, plan) {
            (Some(store), Some(plan)) => (arrived(&store, &plan).await, plan.bytes() as f64),
            _ => (
                0.0,
                self.with(id, |entry| entry.bytes()).unwrap_or_default(),
            ),
        };
        let away = done == 0.0 && message.is_none();
        self.set(
            id,
            if away {
                Place::Away
            } else {
                Place::Paused {
                    done,
                    total,
                    message,
                    full,
                }
            },
        );
    }

    pub(super) fn no_room(&self, id: &str) -> String {
        let bytes = self.with(id, |entry| entry.bytes()).unwrap_or_default();
        let state = self.0.borrow();
        if state.store.is_none() {
            return "This browser keeps no files for pages here (a private window, perhaps). The \
                    model runs all the same: it is read from the hub and not kept."
                .to_owned();
        }
        let free = (state.storage.quota - state.storage.used).max(0.0);
        // A browser's promise may be more than the disk has.
        let left = if free < bytes {
            format!("this browser leaves {:.0} MB to this page", free / 1e6)
        } else {
            "the disk is full".to_owned()
        };
        format!(
            "There is no room: it has {:.0} MB and {left}. Delete a model below or make room on \
             the disk, or run it without keeping it.",
            bytes / 1e6,
        )
    }

    /// What to download: as noted before, or by asking the hub.
    pub(super) async fn plan(&self, id: &str) -> Result<Plan, Stop> {
        let known = self.with(id, |entry| (entry.model.clone(), entry.plan.clone()));
        let Some((model, plan)) = known else {
            return Err(Stop::Asked);
        };
        if let Some(plan) = plan {
            return Ok(plan);
        }
        let (hub, tokenizer) = {
            let state = self.0.borrow();
            let tokenizer = state.registry.as_ref().map(|r| r.tokenizer.clone());
            let hub = state.hub.clone().unwrap_or_else(|| Hub::new(""));
            (hub, tokenizer)
        };
        let plan = resolve(&Net, &hub, &model, tokenizer.as_ref()).await?;
        self.with(id, |entry| entry.plan = Some(plan.clone()));
        Ok(plan)
    }

    async fn bring(
        &self,
        id: &str,
        signal: &web_sys::AbortSignal,
        anyway: bool,
    ) -> Result<(), Stop> {
        let total = self.with(id, |entry| entry.bytes()).unwrap_or_default();
        let coming = |done, total, note: &str| Place::Coming {
            done,
            total,
            rate: 0.0,
            note: Some(note.to_owned()),
        };
        self.set(id, coming(0.0, total, "Asking the hub"));
        let Some(store) = self.0.borrow().store.clone() else {
            return Err(Stop::Here(Refusal::Full));
        };
        let mut tries = 0;
        let plan = loop {
            let plan = self.plan(id).await;
            if signal.aborted() {
                return Err(Stop::Asked);
            }
            match plan {
                Err(Stop::Hub(HubError::Busy { seconds, .. }))
                    if tries < 3 && seconds <= PATIENCE =>
                {
                    tries += 1;
                    let note = format!("The hub asks for {seconds} s of patience");
                    self.set(id, coming(0.0, total, &note));
                    pause(1000 * seconds as i32).await;
                }
                plan => break plan?,
            }
        };
        // The hub's own sizes, and the model's, take the place of the estimates.
        self.ask(id, &plan);
        self.tell();
        if let (false, Fit::No(why)) = (anyway, self.fit(id)) {
            return Err(Stop::Unfit(why));
        }
        let total = plan.bytes() as f64;
        let here = arrived(&store, &plan).await;
        let storage = Store::estimate(true).await;
        self.0.borrow_mut().storage = storage;
        if storage.quota > 0.0 && total - here > storage.quota - storage.used {
            return Err(Stop::Here(Refusal::Full));
        }
        let model = self.with(id, |entry| entry.model.clone());
        let Some(model) = model else {
            return Err(Stop::Asked);
        };
        let manifest = Manifest {
            model,
            plan: plan.clone(),
            done: false,
        };
        store.note(&manifest).await?;
        let mut before = 0.0;
        let speed = Speed::default();
        for file in &plan.files {
            let writer = store.writer(&file.key).await?;
            let told = |at: f64, note: Option<String>| {
                // What is hashed again does not come over the network.
                let rate = speed.note(at, note.is_none());
                if note.is_some() || speed.due() {
                    self.set(
                        id,
                        Place::Coming {
                            done: before + at,
                            total: total.max(before + at),
                            rate,
                            note,
                        },
                    );
                }
            };
            let download = Download {
                file,
                writer: &writer,
                signal,
                told: &told,
            };
            download.run().await?;
            before += writer.size();
            speed.next_file();
        }
        store.finish(id).await?;
        self.set(id, Place::Here { bytes: before });
        Ok(())
    }
}

/// Bytes of a plan that are here.
pub(super) async fn arrived(store: &Store, plan: &Plan) -> f64 {
    let mut bytes = 0.0;
    for file in &plan.files {
        bytes += store.size(&file.key).await;
    }
    bytes
}

/// How fast bytes come, over the last seconds.
#[derive(Default)]
struct Speed {
    /// Time and bytes when it was last told.
    last: Cell<(f64, f64)>,
    rate: Cell<f64>,
    told: Cell<f64>,
}

impl Speed {
    /// Notes that this much of the file is here; bytes a second.
    fn note(&self, at: f64, over_the_network: bool) -> f64 {
        let (then, before) = self.last.get();
        let seconds = (now() - then) / 1000.0;
        if then == 0.0 || !over_the_network || at < before {
            self.last.set((now(), at));
        } else if seconds > 0.5 {
            let rate = (at - before) / seconds;
            let old = self.rate.get();
            self.rate.set(if old == 0.0 {
                rate
            } else {
                0.7 * old + 0.3 * rate
            });
            self.last.set((now(), at));
        }
        self.rate.get()
    }

    fn next_file(&self) {
        self.last.set((now(), 0.0));
    }

    /// Whether it is time to tell again.
    fn due(&self) -> bool {
        let due = now() - self.told.get() > TELL;
        if due {
            self.told.set(now());
        }
        due
    }
}
