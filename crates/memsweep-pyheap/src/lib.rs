//! Walks the interpreter heap.
