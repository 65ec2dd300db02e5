//! WebGPU.
