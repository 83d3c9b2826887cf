//! Storage types and requests as words in orders to other processes.

/// Storage types.
pub mod dtype {
    use serde::{Deserialize, Deserializer, Serializer, de};

    use crate::backend::DType;

    /// As the name.
    pub fn serialize<S: Serializer>(dtype: &DType, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(dtype.name())
    }

    /// From the name.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<DType, D::Error> {
        String::deserialize(from)?.parse().map_err(de::Error::custom)
    }
}

/// Requests for the kernels of matrix products.
pub mod gemm {
    use serde::{Deserialize, Deserializer, Serializer, de};

    use crate::backend::cuda::GemmRequest;

    /// As the word.
    pub fn serialize<S: Serializer>(request: &GemmRequest, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(request.word())
    }

    /// From the word.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<GemmRequest, D::Error> {
        let word = String::deserialize(from)?;
        GemmRequest::of_word(&word)
            .ok_or_else(|| de::Error::custom(format!("`{word}` is no request for GEMM kernels")))
    }
}
