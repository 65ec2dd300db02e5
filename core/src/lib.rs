//! Plume core.
