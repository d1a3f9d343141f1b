//! Language models on libtorch: the decoder families by configuration, each a [`videosdgx_text::Decoder`].
