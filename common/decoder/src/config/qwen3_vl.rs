//! `qwen3_vl`: dense Qwen3 with pictures. Its text part is in `text_config`.

use super::parts::{Attention, Frame};
use super::{ConfigError, DecoderConfig, Family, Fields, RopeConfig, RopeLayout, qwen3};

pub(super) fn parse(fields: Fields<'_>) -> Result<DecoderConfig, ConfigError> {
    let text = Fields::new(fields.object("text_config")?, "text_config.");
    let vision = fields.object("vision_config")?;
    let frame = Frame::parse(text)?;
    let grouped = qwen3::attention(text, &frame, Some(128))?;
    let rope = RopeConfig::parse(text, grouped.head_dim, 5e5, 1.0, RopeLayout::Halves)?;
    let sections = rope.sections.unwrap_or([24, 20, 20]);
    if sections.iter().sum::<i64>() != rope.dim / 2 {
        let reason = format!("is missing, and [24, 20, 20] does not add up to {} frequencies", rope.dim / 2);
        return Err(text.refuse("rope_parameters.mrope_section", reason));
    }
    let layers = frame.dense_layers(text, false)?;
    let tied_head = fields.flag_or("tie_word_embeddings", frame.tied_head)?;
    let rope = RopeConfig { sections: Some(sections), ..rope };
    let config = frame.config(Family::Qwen3Vl, Attention::Grouped(grouped), rope, layers);
    Ok(DecoderConfig { tied_head, vision: Some(vision.clone()), ..config })
}
