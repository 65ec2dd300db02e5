//! The worker: everything that computes.

fn main() {
    console_error_panic_hook::set_once();
    plume_app::worker::start();
}
