//! A real Chromium, driven as a person would.

use std::io::{Read, Write};
use std::mem::ManuallyDrop;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use thirtyfour::prelude::*;
use xtask::serve::Server;

/// How long anything may take, on a slow machine in software.
const PATIENCE: Duration = Duration::from_secs(150);

/// A browser and its driver. Both end with it.
pub struct Browser {
    /// The session. Its own way of ending waits for a driver that may be gone.
    pub driver: ManuallyDrop<WebDriver>,
    process: Child,
    port: u16,
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The driver closes the browser and answers; then it may go.
        if let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.port)) {
            let _ = stream.set_read_timeout(Some(Duration::from_secs(10)));
            let session = self.driver.session_id();
            // The driver passes over requests of HTTP/1.0.
            let request = format!(
                "DELETE /session/{session} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
            );
            let _ = stream.write_all(request.as_bytes());
            let _ = stream.read(&mut [0; 512]);
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Whether a browser can drive the page: `Some` folder of the built page, or
/// none with the reason told.
pub fn page() -> Option<PathBuf> {
    let dist = crate::root().join("dist");
    if !dist.join("precache.json").is_file() {
        println!("skipped: the page is not built (cargo xtask build)");
        return None;
    }
    if Command::new("chromedriver")
        .arg("--version")
        .output()
        .is_err()
    {
        println!("skipped: there is no chromedriver");
        return None;
    }
    Some(dist)
}

/// Serves the page as a static host would, below a path.
///
/// # Panics
/// Where no port can be had.
pub fn serve(dist: &Path) -> Server {
    match Server::start(dist, 0, "/some/where/") {
        Ok(server) => server,
        Err(error) => panic!("{error:#}"),
    }
}

/// A sample drawing that comes with the page.
pub fn sample(name: &str) -> PathBuf {
    crate::root().join("www/demo/samples").join(name)
}

/// What gives a browser a camera that shows a test card.
pub const CAMERA: [&str; 2] = [
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
];

impl Browser {
    /// Starts one with WebGPU in software.
    ///
    /// # Errors
    /// Where driver or browser do not start.
    pub async fn start() -> Result<Self> {
        Self::with(&[]).await
    }

    /// As [`Browser::start`], with further arguments for the browser.
    ///
    /// # Errors
    /// Where driver or browser do not start.
    pub async fn with(more: &[&str]) -> Result<Self> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let process = Command::new("chromedriver")
            .arg(format!("--port={port}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("chromedriver does not start")?;
        let mut capabilities = DesiredCapabilities::chrome();
        for argument in [
            "--headless=new",
            "--no-sandbox",
            "--disable-dev-shm-usage",
            "--enable-unsafe-webgpu",
            "--use-webgpu-adapter=swiftshader",
            "--window-size=1280,900",
        ]
        .iter()
        .chain(more)
        {
            capabilities.add_arg(argument)?;
        }
        let begun = Instant::now();
        let address = format!("http://127.0.0.1:{port}");
        loop {
            match WebDriver::new(&address, capabilities.clone()).await {
                Ok(driver) => {
                    let driver = ManuallyDrop::new(driver);
                    return Ok(Self {
                        driver,
                        process,
                        port,
                    });
                }
                Err(error) if begun.elapsed() > PATIENCE => return Err(error.into()),
                Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
            }
        }
    }

    /// Runs a script in the page.
    ///
    /// # Errors
    /// Where it throws.
    pub async fn script(&self, script: &str, arguments: Vec<Value>) -> Result<Value> {
        Ok(self.driver.execute(script, arguments).await?.json().clone())
    }

    /// Waits until a script gives something that is neither null, false, empty
    /// nor an empty list.
    ///
    /// # Errors
    /// Where it does not.
    pub async fn until(&self, script: &str) -> Result<Value> {
        self.until_within(script, PATIENCE).await
    }

    /// As [`Browser::until`], for so long.
    ///
    /// # Errors
    /// Where it does not.
    pub async fn until_within(&self, script: &str, patience: Duration) -> Result<Value> {
        let begun = Instant::now();
        loop {
            let value = self.script(script, vec![]).await?;
            let nothing = value.is_null()
                || value == json!(false)
                || value == json!("")
                || value == json!([]);
            if !nothing {
                return Ok(value);
            }
            if begun.elapsed() > patience {
                let text = self
                    .script("return document.body.innerText", vec![])
                    .await?;
                bail!("still waiting for: {script}\nthe page says: {text}");
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Opens the page and waits for its model.
    ///
    /// # Errors
    /// Where none comes.
    pub async fn open(&self, address: &str) -> Result<String> {
        self.driver.goto(address).await?;
        self.device().await
    }

    /// What the badge says once a model is loaded.
    ///
    /// # Errors
    /// Where none comes.
    pub async fn device(&self) -> Result<String> {
        let badge = "const b = document.querySelector('#device-badge');
            return b && ['cpu', 'gpu'].includes(b.dataset.kind) ? b.textContent : null";
        Ok(self
            .until(badge)
            .await?
            .as_str()
            .unwrap_or_default()
            .to_owned())
    }

    /// Drops files on the page.
    ///
    /// # Errors
    /// Where the page does not take them.
    pub async fn drop_files(&self, files: &[(&str, &[u8])]) -> Result<()> {
        self.drop_files_on("body", files).await
    }

    /// Drops files on a part of the page.
    ///
    /// # Errors
    /// Where the page does not take them.
    pub async fn drop_files_on(&self, css: &str, files: &[(&str, &[u8])]) -> Result<()> {
        let files: Vec<Value> = files
            .iter()
            .map(|(name, bytes)| json!([name, bytes]))
            .collect();
        let script = "const data = new DataTransfer();
            for (const [name, bytes] of arguments[0])
                data.items.add(new File([new Uint8Array(bytes)], name));
            document.querySelector(arguments[1]).dispatchEvent(
                new DragEvent('drop', { dataTransfer: data, bubbles: true, cancelable: true }));";
        self.script(script, vec![json!(files), json!(css)]).await?;
        Ok(())
    }

    /// Chooses files in a file input, as the file dialogue does.
    ///
    /// # Errors
    /// Where the input does not take them.
    pub async fn choose_files(&self, input: &str, files: &[PathBuf]) -> Result<()> {
        let paths = files.iter().map(|path| {
            // The driver takes no others.
            let path = path.canonicalize()?;
            Ok(path.to_string_lossy().into_owned())
        });
        let paths: Vec<String> = paths.collect::<Result<_>>()?;
        let input = self.driver.find(By::Css(input)).await?;
        input.send_keys(paths.join("\n")).await?;
        Ok(())
    }

    /// Chooses what computes, and waits for it.
    ///
    /// # Errors
    /// Where it does not come.
    pub async fn choose_device(&self, kind: &str) -> Result<String> {
        let script = "const s = document.querySelector('#device-select');
            s.value = arguments[0]; s.dispatchEvent(new Event('change', { bubbles: true }))";
        self.script(script, vec![json!(kind)]).await?;
        let badge =
            format!("return document.querySelector('#device-badge').dataset.kind === '{kind}'");
        self.until(&badge).await?;
        self.device().await
    }

    /// `[label, cosine, probability]` of a picture's bars, best first.
    ///
    /// # Errors
    /// Where the picture gets no scores.
    pub async fn scores(&self, name: &str) -> Result<Vec<(String, f32, f32)>> {
        let script = format!(
            "const card = document.querySelector('.picture-card[data-name=\"{name}\"]');
             return card && [...card.querySelectorAll('[data-label]')].map(bar =>
                 [bar.dataset.label, +bar.dataset.cosine, +bar.dataset.probability])"
        );
        Ok(serde_json::from_value(self.until(&script).await?)?)
    }

    /// Sets the size of the window and the colour scheme, and saves a picture
    /// of the page.
    ///
    /// # Errors
    /// Where the driver refuses, or the page is wider than that.
    pub async fn shot(&self, path: &Path, width: u32, dark: bool) -> Result<()> {
        let tools = self.driver.cdp();
        let size =
            json!({"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500});
        tools
            .send_raw("Emulation.setDeviceMetricsOverride", size)
            .await?;
        let scheme = if dark { "dark" } else { "light" };
        let media = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        tools.send_raw("Emulation.setEmulatedMedia", media).await?;
        tokio::time::sleep(Duration::from_millis(300)).await;
        self.driver.screenshot(path).await?;
        // A page that is wider makes a phone's window wider as well.
        let wide = "return document.documentElement.scrollWidth";
        let wide = self.script(wide, vec![]).await?;
        if wide.as_u64().is_none_or(|wide| wide > u64::from(width)) {
            bail!("at a width of {width} the page has {wide}");
        }
        Ok(())
    }
}
