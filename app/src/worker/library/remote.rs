//! A file on a server, read in ranges: a model runs without being kept, one
//! tensor at a time.

use plume_core::checkpoint::Bytes;
use plume_core::hub::HubError;
use plume_core::{Error, Result};
use wasm_bindgen::JsCast;
use web_sys::{XmlHttpRequest, XmlHttpRequestResponseType};

/// Tries before a range is given up.
const TRIES: usize = 3;

/// Waits for its ranges, which only a worker may do.
pub(super) struct Remote {
    url: String,
    len: u64,
    told: Box<dyn Fn(usize)>,
}

impl Remote {
    /// None where the server does not give ranges. `told` hears of each one.
    pub(super) fn open(url: &str, len: u64, told: Box<dyn Fn(usize)>) -> Option<Self> {
        let remote = Self {
            url: url.to_owned(),
            len,
            told,
        };
        (len > 0 && remote.range(0, 1).is_ok()).then_some(remote)
    }

    fn range(&self, offset: u64, len: usize) -> std::result::Result<Vec<u8>, HubError> {
        let url = || self.url.clone();
        let no = |_| HubError::Unreachable { url: url() };
        let request = XmlHttpRequest::new().map_err(no)?;
        request
            .open_with_async("GET", &self.url, false)
            .map_err(no)?;
        request.set_response_type(XmlHttpRequestResponseType::Arraybuffer);
        let range = format!("bytes={offset}-{}", offset + len as u64 - 1);
        request.set_request_header("Range", &range).map_err(no)?;
        request.send().map_err(no)?;
        match request.status().unwrap_or_default() {
            206 => {}
            // The whole file may not fit in memory.
            200 => return Err(HubError::Changed { url: url() }),
            status => return Err(HubError::of_status(&self.url, status, None)),
        }
        let buffer = request.response().map_err(no)?;
        if !buffer.is_instance_of::<js_sys::ArrayBuffer>() {
            return Err(HubError::Cut { url: url() });
        }
        let bytes = js_sys::Uint8Array::new(&buffer);
        if bytes.length() as usize != len {
            return Err(HubError::Cut { url: url() });
        }
        Ok(bytes.to_vec())
    }
}

impl Bytes for Remote {
    fn len(&self) -> u64 {
        self.len
    }

    fn read(&self, offset: u64, len: usize) -> Result<Vec<u8>> {
        if len == 0 {
            return Ok(Vec::new());
        }
        (self.told)(len);
        let mut last = None;
        for _ in 0..TRIES {
            match self.range(offset, len) {
                Ok(bytes) => return Ok(bytes),
                Err(error) if error.is_passing() => last = Some(error),
                Err(error) => return Err(Error::Read(error.to_string())),
            }
        }
        let last = last.map_or_else(String::new, |error| error.to_string());
        Err(Error::Read(last))
    }
}
