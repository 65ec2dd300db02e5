//! Downloading models, in a real Chromium, against a hub that misbehaves.

use plume_tests::checkpoint::Seeded;
use plume_tests::hub::{Hub, Manners};
use plume_tests::scene::{FIRST, SECOND, SMALL, Scene, on_disk, repository};
use tokio::sync::Mutex;

/// One browser at a time: two cores are soon busy.
static TURN: Mutex<()> = Mutex::const_new(());

#[tokio::test]
async fn a_model_is_downloaded_used_without_the_network_and_deleted() {
    let _turn = TURN.lock().await;
    let Some(scene) = Scene::open().await else {
        return;
    };
    scene.press(FIRST, "download").await;
    scene.until(FIRST, "here").await;
    let stored = scene.stored().await;
    assert_eq!(stored.len(), 4, "{stored:?}");
    let weights = Seeded::new(&SMALL.tensors(), 1).len() as f64;
    assert!(
        stored.iter().any(|(_, bytes)| *bytes == weights),
        "{stored:?}"
    );

    scene.press(FIRST, "use").await;
    scene.computes("CLIP ViT-B/32").await;
    let model = on_disk("first", repository(SMALL, 1).0);
    scene.agrees(&model).await;

    // The next visit begins with it, and the hub is not asked.
    scene.hub.asked();
    scene.visit("").await;
    scene.computes("CLIP ViT-B/32").await;
    scene.agrees(&model).await;
    assert_eq!(scene.hub.asked(), []);

    let delete = format!("document.querySelector('[data-kept=\"{FIRST}\"] button').click()");
    scene.browser.script(&delete, vec![]).await.unwrap();
    scene.until(FIRST, "away").await;
    assert_eq!(scene.stored().await, []);
    // A visit after that begins with the page's own again, and says why.
    scene.visit("").await;
    scene.computes("Plume's drawings").await;
}

#[tokio::test]
async fn a_download_is_paused_goes_on_and_survives_a_reload() {
    let _turn = TURN.lock().await;
    let Some(scene) = Scene::open().await else {
        return;
    };
    let slow = Manners {
        bytes_per_second: Some(2_000_000),
        ..Manners::default()
    };
    scene.hub.behave(slow.clone());
    scene.press(FIRST, "download").await;
    let line = scene.says(FIRST, "left").await;
    assert!(line.contains(" of 1") && line.contains("/s"), "{line}");
    scene.press(FIRST, "pause").await;
    scene.until(FIRST, "paused").await;
    let paused = scene.arrived(FIRST).await;
    assert!(paused > 0.0);
    scene.hub.asked();
    scene.press(FIRST, "download").await;
    scene.until(FIRST, "coming").await;
    scene.says(FIRST, "left").await;
    let ranges = scene.hub.ranges();
    assert!(
        ranges.iter().any(|&from| from as f64 >= paused),
        "{ranges:?}"
    );

    // The page goes away in the middle.
    scene.visit("").await;
    scene.until(FIRST, "paused").await;
    let kept = scene.arrived(FIRST).await;
    assert!(kept >= paused, "{kept} after {paused}");
    scene.hub.behave(Manners::default());
    scene.press(FIRST, "download").await;
    scene.until(FIRST, "here").await;
    let ranges = scene.hub.ranges();
    assert!(
        ranges.iter().any(|&from| from as f64 >= kept * 0.9),
        "{ranges:?}"
    );
    scene.press(FIRST, "use").await;
    scene.computes("CLIP ViT-B/32").await;
    scene
        .agrees(&on_disk("first", repository(SMALL, 1).0))
        .await;

    // Cancelled, nothing is left of it.
    let before = scene.stored().await;
    scene.hub.behave(slow);
    scene.press(SECOND, "download").await;
    scene.says(SECOND, "left").await;
    scene.press(SECOND, "delete").await;
    scene.until(SECOND, "away").await;
    assert_eq!(scene.stored().await.len(), before.len());
}

#[tokio::test]
async fn faults_are_survived_or_said_in_words_and_lose_nothing() {
    let _turn = TURN.lock().await;
    let Some(scene) = Scene::open().await else {
        return;
    };
    // Broken twice, a part each time.
    scene.hub.behave(Manners {
        cuts: 2,
        cut_after: 3_000_000,
        busy: 1,
        ..Manners::default()
    });
    scene.press(FIRST, "download").await;
    scene.until(FIRST, "here").await;
    let ranges = scene.hub.ranges();
    assert_eq!(ranges.len(), 2, "{ranges:?}");
    assert!(ranges[0] > 0 && ranges[1] > ranges[0], "{ranges:?}");
    let first = scene.stored().await;

    let faults: [(Manners, &str); 6] = [
        (
            Manners {
                status: Some(401),
                ..Manners::default()
            },
            "accept the terms",
        ),
        (
            Manners {
                status: Some(404),
                ..Manners::default()
            },
            "is not there",
        ),
        (
            Manners {
                status: Some(500),
                ..Manners::default()
            },
            "answered 500",
        ),
        (
            Manners {
                busy: 9,
                ..Manners::default()
            },
            "patience",
        ),
        (
            Manners {
                cors: false,
                ..Manners::default()
            },
            "does not let other pages read it",
        ),
        (
            Manners {
                lies: true,
                ..Manners::default()
            },
            "is not what the hub announced",
        ),
    ];
    for (manners, word) in faults {
        scene.hub.behave(manners);
        scene.press(SECOND, "download").await;
        let said = scene.says(SECOND, word).await;
        println!("{said}");
        scene.until(SECOND, "paused").await;
        scene.press(SECOND, "delete").await;
        scene.until(SECOND, "away").await;
        assert_eq!(scene.stored().await.len(), first.len(), "after: {word}");
    }

    // A server without ranges that breaks once gives all of it again.
    scene.hub.behave(Manners {
        ranges: false,
        cuts: 1,
        cut_after: 5_000_000,
        ..Manners::default()
    });
    scene.press(SECOND, "download").await;
    scene.until(SECOND, "here").await;
    scene.until(FIRST, "here").await;
    let kept = scene.stored().await;
    assert!(first.iter().all(|file| kept.contains(file)), "{kept:?}");
    scene.press(SECOND, "use").await;
    scene.computes("CLIP ViT-B/16").await;
    scene
        .agrees(&on_disk("second", repository(SMALL, 2).0))
        .await;

    // Without a hub, what is here stays in use.
    let Scene {
        hub,
        server,
        browser,
    } = scene;
    drop(hub);
    let scene = Scene {
        hub: Hub::start().unwrap(),
        server,
        browser,
    };
    scene.press("vit-l-14", "download").await;
    scene.says("vit-l-14", "cannot be reached").await;
    scene.until(FIRST, "here").await;
}
