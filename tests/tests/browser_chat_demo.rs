//! A whole conversation with the Flamingo that comes with the page, offline, in
//! a real Chromium.

use plume_tests::browser::{Browser, page, sample, serve};
use plume_tests::chatting::{
    act, generated, pictures_of, prompt_file, put_sample, ready_made, send, set, visit,
};
use plume_tests::root;

/// Pictures of it are left for eyes in `target/shots`.
#[tokio::test]
async fn a_conversation_goes_on_offline_and_says_what_the_command_says() {
    let Some(dist) = page() else { return };
    let server = serve(&dist);
    let address = server.address();
    let browser = Browser::start().await.unwrap();
    visit(&browser, &address).await;
    browser
        .until("return navigator.serviceWorker.controller !== null")
        .await
        .unwrap();
    drop(server);
    browser.driver.goto("about:blank").await.unwrap();
    visit(&browser, &address).await;
    browser.choose_device("cpu").await.unwrap();

    let folder = root().join("target/tmp-chat/demo");
    std::fs::create_dir_all(&folder).unwrap();
    ready_made(&browser, "Describe", 4).await;
    set(&browser, "#most", "12").await;
    let demo = root().join("www/demo/flamingo");
    let mut pictures = pictures_of("Describe");
    let samples = [
        None,
        Some((5, "pink-butterfly.png")),
        Some((2, "red-house.png")),
    ];
    for (turn, put) in samples.into_iter().enumerate() {
        if let Some((nth, name)) = put {
            put_sample(&browser, nth).await;
            pictures.push(sample(name));
        }
        let marks = pictures.len() + 1;
        let planned = format!(
            "return document.querySelector('#raw-prompt').textContent.split('<image>').length === {marks}"
        );
        browser.until(&planned).await.unwrap();
        let prompt = prompt_file(&browser, &pictures, &folder).await;
        let options = ["--greedy", "--max-new-tokens", "12"];
        let expected = generated(&demo, &prompt, &options);
        let written = send(&browser).await;
        println!("turn {turn}: {written}");
        assert_eq!(written, expected, "turn {turn}");
    }
    let alive = "return document.querySelectorAll('.turn').length === 3
        && document.querySelector('#error') === null";
    browser.until(alive).await.unwrap();
    act(&browser, "document.activeElement.blur()").await;
    let folder = root().join("target/shots");
    std::fs::create_dir_all(&folder).unwrap();
    for (size, dark) in [(1280, false), (1280, true), (360, false), (360, true)] {
        let hue = if dark { "dark" } else { "light" };
        let path = folder.join(format!("chat-{size}-{hue}.png"));
        browser.shot(&path, size, dark).await.unwrap();
    }
}
