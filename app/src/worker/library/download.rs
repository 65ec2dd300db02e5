//! One file, from a server into storage: streamed, hashed on the way, taken up
//! where it stopped.

use plume_core::hub::{HubError, Planned};
use sha2::{Digest, Sha256};
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;
use web_sys::{AbortSignal, ReadableStreamDefaultReader, Response};

use super::super::pause;
use super::net::{Ask, fetch, header};
use super::store::{Refusal, Writer};

/// Why a download ended before its end.
pub(super) enum Stop {
    /// The person wanted it.
    Asked,
    /// The hub or the way to it.
    Hub(HubError),
    /// This machine.
    Here(Refusal),
    /// It does not fit, because.
    Unfit(String),
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Here(refusal)
    }
}

impl From<HubError> for Stop {
    fn from(error: HubError) -> Self {
        Self::Hub(error)
    }
}

/// Bytes that are hashed again at a time.
const PIECE: usize = 4 << 20;
/// Bytes after which the disk is asked to have them.
const FLUSH: f64 = 32e6;
/// Tries without a byte of progress before it is given up.
const TRIES: u32 = 5;
/// Longest patience a hub may ask for, in seconds; beyond, the person decides.
pub(super) const PATIENCE: u32 = 90;

/// Someone who hears how far it is: bytes of this file, and what is waited for.
pub(super) type Told<'a> = &'a dyn Fn(f64, Option<String>);

/// A download of one file.
pub(super) struct Download<'a> {
    pub(super) file: &'a Planned,
    pub(super) writer: &'a Writer,
    pub(super) signal: &'a AbortSignal,
    pub(super) told: Told<'a>,
}

impl Download<'_> {
    /// Brings the file, from where it stopped, and checks it.
    ///
    /// # Errors
    /// What has arrived stays, unless it is wrong.
    pub(super) async fn run(&self) -> Result<(), Stop> {
        let whole = self.file.bytes.map(|bytes| bytes as f64);
        let mut at = self.writer.size();
        // Without a length nobody knows whether a part is the whole.
        if whole.is_none_or(|whole| at > whole) {
            self.writer.truncate(0.0)?;
            at = 0.0;
        }
        let mut hash = self.hash_again(at).await?;
        let mut tries = 0;
        while whole.is_none_or(|whole| at < whole) {
            let before = at;
            let Err(stop) = self.part(&mut at, &mut hash).await else {
                break;
            };
            self.writer.flush();
            let Stop::Hub(error) = stop else {
                return Err(stop);
            };
            tries = if at > before { 1 } else { tries + 1 };
            // A server that answered a moment ago does not forbid reading now.
            let passing =
                error.is_passing() || (at > 0.0 && matches!(error, HubError::Refused { .. }));
            if !passing || tries >= TRIES {
                return Err(error.into());
            }
            let (seconds, why) = match &error {
                HubError::Busy { seconds, .. } if *seconds > PATIENCE => return Err(error.into()),
                HubError::Busy { seconds, .. } => (*seconds, "The hub asks for patience"),
                _ => (1 << (tries - 1), "The connection broke"),
            };
            self.wait(seconds, why, at).await?;
        }
        self.writer.flush();
        self.check(at, hash)
    }

    /// Waits and counts.
    async fn wait(&self, seconds: u32, why: &str, at: f64) -> Result<(), Stop> {
        for left in (1..=seconds).rev() {
            (self.told)(at, Some(format!("{why}: on again in {left} s")));
            pause(1000).await;
            self.asked()?;
        }
        Ok(())
    }

    fn asked(&self) -> Result<(), Stop> {
        if self.signal.aborted() {
            return Err(Stop::Asked);
        }
        Ok(())
    }

    /// The hash of what is there already.
    async fn hash_again(&self, size: f64) -> Result<Sha256, Stop> {
        let mut hash = Sha256::new();
        let mut at = 0.0;
        let mut piece = vec![0; PIECE.min(size as usize)];
        while at < size {
            let left = (size - at).min(piece.len() as f64) as usize;
            let read = self.writer.read(at, &mut piece[..left])?;
            if read == 0 {
                let lost = "a part that was kept cannot be read: delete the model and start again";
                return Err(Refusal::Other(lost.to_owned()).into());
            }
            hash.update(&piece[..read]);
            at += read as f64;
            (self.told)(at, Some("Checking what is here already".to_owned()));
            pause(0).await;
            self.asked()?;
        }
        Ok(hash)
    }

    /// One answer, as far as it goes.
    async fn part(&self, at: &mut f64, hash: &mut Sha256) -> Result<(), Stop> {
        let url = &self.file.url;
        let ask = Ask {
            head: false,
            from: *at,
            signal: Some(self.signal),
        };
        let answer = fetch(url, ask).await;
        self.asked()?;
        let response = match answer {
            Ok(response) => response,
            // It is shorter than what is here: another file.
            Err(HubError::Status { status: 416, .. }) => {
                self.writer.truncate(0.0)?;
                return Err(HubError::Changed { url: url.clone() }.into());
            }
            Err(error) => return Err(error.into()),
        };
        if *at > 0.0 {
            if response.status() == 206 {
                self.same_version(&response)?;
            } else {
                // A server without ranges gives all of it again.
                self.writer.truncate(0.0)?;
                *at = 0.0;
                *hash = Sha256::new();
            }
        }
        self.stream(&response, at, hash).await
    }

    /// A part of another version does not fit to what is here.
    fn same_version(&self, response: &Response) -> Result<(), Stop> {
        let total = header(response, "Content-Range");
        let total = total.and_then(|range| range.rsplit('/').next()?.parse::<u64>().ok());
        let tag = header(response, "ETag");
        let tag = tag.map(|tag| tag.trim_start_matches("W/").trim_matches('"').to_owned());
        let differs = total.is_some_and(|total| Some(total) != self.file.bytes)
            || (self.file.etag.is_some() && tag.is_some() && tag != self.file.etag);
        if differs {
            self.writer.truncate(0.0)?;
            let url = self.file.url.clone();
            return Err(HubError::Changed { url }.into());
        }
        Ok(())
    }

    async fn stream(
        &self,
        response: &Response,
        at: &mut f64,
        hash: &mut Sha256,
    ) -> Result<(), Stop> {
        let cut = || {
            Stop::Hub(HubError::Cut {
                url: self.file.url.clone(),
            })
        };
        let body = response.body().ok_or_else(cut)?;
        let reader: ReadableStreamDefaultReader = body.get_reader().unchecked_into();
        let mut flushed = *at;
        // One buffer for all pieces: memory stays flat.
        let mut bytes = Vec::new();
        loop {
            let next = JsFuture::from(reader.read()).await;
            if self.asked().is_err() {
                let _ = reader.cancel();
                return Err(Stop::Asked);
            }
            let next = next.map_err(|_| cut())?;
            let get = |name: &str| js_sys::Reflect::get(&next, &name.into());
            if get("done").is_ok_and(|done| done.is_truthy()) {
                break;
            }
            let piece: js_sys::Uint8Array =
                get("value").map_err(|_: JsValue| cut())?.unchecked_into();
            bytes.resize(piece.length() as usize, 0);
            piece.copy_to(&mut bytes);
            if let Err(refusal) = self.writer.write(*at, &bytes) {
                let _ = reader.cancel();
                return Err(refusal.into());
            }
            hash.update(&bytes);
            *at += bytes.len() as f64;
            if *at - flushed > FLUSH {
                self.writer.flush();
                flushed = *at;
            }
            (self.told)(*at, None);
        }
        let whole = self.file.bytes.map(|bytes| bytes as f64);
        if whole.is_some_and(|whole| *at < whole) {
            return Err(cut());
        }
        Ok(())
    }

    /// Throws away what is not what was promised.
    fn check(&self, at: f64, hash: Sha256) -> Result<(), Stop> {
        let found = format!("{:x}", hash.finalize());
        let name = self.file.name.clone();
        let url = self.file.url.clone();
        if let Some(expected) = self.file.sha256.clone()
            && expected != found
        {
            self.writer.truncate(0.0)?;
            return Err(HubError::Hash {
                name,
                expected,
                found,
            }
            .into());
        }
        if self.file.bytes.is_some_and(|bytes| bytes as f64 != at) {
            self.writer.truncate(0.0)?;
            return Err(HubError::Changed { url }.into());
        }
        Ok(())
    }
}
