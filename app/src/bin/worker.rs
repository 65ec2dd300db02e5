//! The worker: everything that computes.

fn main() {
    plume_app::worker::start();
}
