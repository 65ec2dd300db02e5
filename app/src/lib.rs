//! Plume app.
