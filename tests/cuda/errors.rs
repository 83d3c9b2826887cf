//! What the CUDA back end says where something is missing.
