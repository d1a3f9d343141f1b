//! The scheduler of a checkpoint, from `scheduler_config.json`.

use std::path::Path;

use serde::Deserialize;
use videosdgx_api::SchedulerName;
use videosdgx_tensor::{CheckpointError, read_json};

use super::flow_match_euler::Schedule;
use super::{
    DynamicShift, FlowMatchEuler, FlowMatchEulerAncestral, FlowMatchEulerConfig, Scheduler, ShiftKind,
    SolverType, UniPc, UniPcConfig,
};

/// A scheduler with its settings.
#[derive(Debug, Clone, PartialEq)]
pub enum SchedulerConfig {
    /// `UniPCMultistepScheduler` on flow sigmas.
    UniPc(UniPcConfig),
    /// `FlowMatchEulerDiscreteScheduler`.
    FlowMatchEuler(FlowMatchEulerConfig),
    /// `FlowMatchEulerDiscreteScheduler` with `stochastic_sampling`.
    FlowMatchEulerAncestral(FlowMatchEulerConfig),
}

impl SchedulerConfig {
    /// Reads `scheduler/scheduler_config.json` of a checkpoint folder.
    ///
    /// # Errors
    /// [`CheckpointError::Missing`], or [`CheckpointError::Invalid`] naming the first setting that is not supported.
    pub fn read(checkpoint: &Path) -> Result<Self, CheckpointError> {
        let path = checkpoint.join("scheduler").join("scheduler_config.json");
        let settings: Settings = read_json(&path)?;
        settings.parse().map_err(|reason| CheckpointError::invalid(&path, reason))
    }

    /// The name by which a request selects it.
    #[must_use]
    pub fn name(&self) -> SchedulerName {
        match self {
            Self::UniPc(_) => SchedulerName::Unipc,
            Self::FlowMatchEuler(_) => SchedulerName::Euler,
            Self::FlowMatchEulerAncestral(_) => SchedulerName::EulerAncestral,
        }
    }

    /// Number of training timesteps and shift towards noise, which every scheduler has.
    fn schedule(&self) -> (u32, f64) {
        match self {
            Self::UniPc(config) => (config.num_train_timesteps, config.flow_shift),
            Self::FlowMatchEuler(config) | Self::FlowMatchEulerAncestral(config) => {
                (config.num_train_timesteps, config.shift)
            }
        }
    }

    /// The scheduler `name` on the same schedule: unchanged when it is this one already.
    #[must_use]
    pub fn with_scheduler(&self, name: SchedulerName) -> Self {
        let (num_train_timesteps, shift) = self.schedule();
        match (name, self) {
            (SchedulerName::Unipc, Self::UniPc(_))
            | (SchedulerName::Euler, Self::FlowMatchEuler(_))
            | (SchedulerName::EulerAncestral, Self::FlowMatchEulerAncestral(_)) => self.clone(),
            (SchedulerName::Unipc, _) => Self::UniPc(UniPcConfig {
                num_train_timesteps,
                flow_shift: shift,
                solver_order: 2,
                solver_type: SolverType::Bh2,
                lower_order_final: true,
                final_sigma_is_zero: true,
                disable_corrector: Vec::new(),
            }),
            (SchedulerName::Euler, Self::FlowMatchEulerAncestral(config)) => {
                Self::FlowMatchEuler(config.clone())
            }
            (SchedulerName::EulerAncestral, Self::FlowMatchEuler(config)) => {
                Self::FlowMatchEulerAncestral(config.clone())
            }
            (SchedulerName::Euler, Self::UniPc(_)) => {
                Self::FlowMatchEuler(FlowMatchEulerConfig::new(num_train_timesteps, shift))
            }
            (SchedulerName::EulerAncestral, Self::UniPc(_)) => {
                Self::FlowMatchEulerAncestral(FlowMatchEulerConfig::new(num_train_timesteps, shift))
            }
        }
    }

    /// The same scheduler with a constant shift, and not stretched.
    #[must_use]
    pub fn with_constant_shift(self, shift: f64) -> Self {
        let constant = |config: FlowMatchEulerConfig| FlowMatchEulerConfig {
            dynamic_shift: None,
            shift_terminal: None,
            ..config
        };
        let config = match self {
            Self::FlowMatchEuler(config) => Self::FlowMatchEuler(constant(config)),
            Self::FlowMatchEulerAncestral(config) => Self::FlowMatchEulerAncestral(constant(config)),
            unipc @ Self::UniPc(_) => unipc,
        };
        config.with_shift(shift)
    }

    /// The same scheduler with another shift towards noise.
    #[must_use]
    pub fn with_shift(mut self, shift: f64) -> Self {
        match &mut self {
            Self::UniPc(config) => config.flow_shift = shift,
            Self::FlowMatchEuler(config) | Self::FlowMatchEulerAncestral(config) => config.shift = shift,
        }
        self
    }

    /// Fails if the schedule depends on the number of tokens or is stretched, for models that use
    /// [`SchedulerConfig::start`].
    ///
    /// # Errors
    /// Names the setting.
    pub fn require_constant_shift(&self) -> Result<(), String> {
        match self {
            Self::FlowMatchEuler(config) | Self::FlowMatchEulerAncestral(config) => {
                if config.dynamic_shift.is_some() {
                    return Err("use_dynamic_shifting is not supported for this model".to_owned());
                }
                match config.shift_terminal {
                    Some(_) => Err("shift_terminal is not supported for this model".to_owned()),
                    None => Ok(()),
                }
            }
            Self::UniPc(_) => Ok(()),
        }
    }

    /// The scheduler at the start of a schedule of `steps` steps over the whole training schedule. The shift is
    /// constant, see [`SchedulerConfig::require_constant_shift`].
    pub fn start(&self, steps: usize) -> Box<dyn Scheduler> {
        match self {
            Self::UniPc(config) => Box::new(UniPc::new(config, steps)),
            Self::FlowMatchEuler(config) => Box::new(FlowMatchEuler::new(Schedule::of_steps(config, steps))),
            Self::FlowMatchEulerAncestral(config) => {
                Box::new(FlowMatchEulerAncestral::new(Schedule::of_steps(config, steps)))
            }
        }
    }

    /// The scheduler at the start of a schedule with one step from each of `sigmas` (falling, above 0, before any
    /// shift) and a last one to 0, for a sequence of `tokens` tokens. `None` for UniPC, which has no such schedule here.
    pub fn start_from(&self, sigmas: &[f64], tokens: i64) -> Option<Box<dyn Scheduler>> {
        match self {
            Self::UniPc(_) => None,
            Self::FlowMatchEuler(config) => {
                Some(Box::new(FlowMatchEuler::new(Schedule::of_sigmas(config, sigmas, tokens))))
            }
            Self::FlowMatchEulerAncestral(config) => {
                Some(Box::new(FlowMatchEulerAncestral::new(Schedule::of_sigmas(config, sigmas, tokens))))
            }
        }
    }
}

/// The file's settings, with the reference's defaults. Settings without effect on flow sigmas (betas, spacing) are not
/// read.
#[derive(Debug, Deserialize)]
#[serde(default)]
struct Settings {
    _class_name: String,
    num_train_timesteps: u32,
    prediction_type: String,
    flow_shift: f64,
    shift: f64,
    solver_order: usize,
    solver_type: String,
    disable_corrector: Vec<usize>,
    final_sigmas_type: String,
    predict_x0: bool,
    lower_order_final: bool,
    use_flow_sigmas: bool,
    use_karras_sigmas: bool,
    use_exponential_sigmas: bool,
    use_beta_sigmas: bool,
    use_dynamic_shifting: bool,
    time_shift_type: String,
    base_image_seq_len: f64,
    max_image_seq_len: f64,
    base_shift: f64,
    max_shift: f64,
    thresholding: bool,
    invert_sigmas: bool,
    stochastic_sampling: bool,
    shift_terminal: Option<f64>,
    solver_p: Option<serde_json::Value>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            _class_name: String::new(),
            num_train_timesteps: 1000,
            prediction_type: "epsilon".to_owned(),
            flow_shift: 1.0,
            shift: 1.0,
            solver_order: 2,
            solver_type: "bh2".to_owned(),
            disable_corrector: Vec::new(),
            final_sigmas_type: "zero".to_owned(),
            predict_x0: true,
            lower_order_final: true,
            use_flow_sigmas: false,
            use_karras_sigmas: false,
            use_exponential_sigmas: false,
            use_beta_sigmas: false,
            use_dynamic_shifting: false,
            time_shift_type: "exponential".to_owned(),
            base_image_seq_len: 256.0,
            max_image_seq_len: 4096.0,
            base_shift: 0.5,
            max_shift: 1.15,
            thresholding: false,
            invert_sigmas: false,
            stochastic_sampling: false,
            shift_terminal: None,
            solver_p: None,
        }
    }
}

impl Settings {
    fn parse(self) -> Result<SchedulerConfig, String> {
        let unsupported = [
            ("use_karras_sigmas", self.use_karras_sigmas),
            ("use_exponential_sigmas", self.use_exponential_sigmas),
            ("use_beta_sigmas", self.use_beta_sigmas),
            ("thresholding", self.thresholding),
            ("invert_sigmas", self.invert_sigmas),
            ("solver_p", self.solver_p.is_some()),
        ];
        if let Some((name, _)) = unsupported.iter().find(|(_, set)| *set) {
            return Err(format!("{name} is not supported"));
        }
        if self.num_train_timesteps == 0 {
            return Err("num_train_timesteps must not be 0".to_owned());
        }
        match self._class_name.as_str() {
            "UniPCMultistepScheduler" => self.unipc().map(SchedulerConfig::UniPc),
            "FlowMatchEulerDiscreteScheduler" => {
                let config = self.flow_match_euler()?;
                Ok(match self.stochastic_sampling {
                    true => SchedulerConfig::FlowMatchEulerAncestral(config),
                    false => SchedulerConfig::FlowMatchEuler(config),
                })
            }
            other => Err(format!(
                "scheduler {other:?} is not supported; use UniPCMultistepScheduler or FlowMatchEulerDiscreteScheduler"
            )),
        }
    }

    fn flow_match_euler(&self) -> Result<FlowMatchEulerConfig, String> {
        let shift_terminal = self.shift_terminal.filter(|terminal| *terminal != 0.0);
        if let Some(terminal) = shift_terminal.filter(|terminal| !(0.0..1.0).contains(terminal)) {
            return Err(format!("shift_terminal {terminal} is not between 0 and 1"));
        }
        Ok(FlowMatchEulerConfig {
            num_train_timesteps: self.num_train_timesteps,
            shift: positive("shift", self.shift)?,
            dynamic_shift: self.use_dynamic_shifting.then(|| self.dynamic_shift()).transpose()?,
            shift_terminal,
        })
    }

    fn dynamic_shift(&self) -> Result<DynamicShift, String> {
        let kind = match self.time_shift_type.as_str() {
            "exponential" => ShiftKind::Exponential,
            "linear" => ShiftKind::Linear,
            other => return Err(format!("time_shift_type {other:?} is not supported")),
        };
        let base = positive("base_image_seq_len", self.base_image_seq_len)?;
        let max = positive("max_image_seq_len", self.max_image_seq_len)?;
        if base >= max {
            return Err("base_image_seq_len must be below max_image_seq_len".to_owned());
        }
        let mu = [positive("base_shift", self.base_shift)?, positive("max_shift", self.max_shift)?];
        Ok(DynamicShift { tokens: [base, max], mu, kind })
    }

    fn unipc(self) -> Result<UniPcConfig, String> {
        if self.prediction_type != "flow_prediction" || !self.use_flow_sigmas {
            return Err("only flow models are supported: prediction_type must be flow_prediction and \
                        use_flow_sigmas true"
                .to_owned());
        }
        if !self.predict_x0 {
            return Err("predict_x0 must be true".to_owned());
        }
        let unsupported = [
            ("use_dynamic_shifting", self.use_dynamic_shifting),
            ("shift_terminal", self.shift_terminal.is_some_and(|terminal| terminal != 0.0)),
        ];
        if let Some((name, _)) = unsupported.iter().find(|(_, set)| *set) {
            return Err(format!("{name} is not supported for UniPC"));
        }
        if !(1..=3).contains(&self.solver_order) {
            return Err(format!("solver_order {} is not supported; use 1, 2 or 3", self.solver_order));
        }
        let final_sigma_is_zero = match self.final_sigmas_type.as_str() {
            "zero" => true,
            "sigma_min" => false,
            other => return Err(format!("final_sigmas_type {other:?} is not supported")),
        };
        if final_sigma_is_zero && !self.lower_order_final && self.solver_order > 1 {
            return Err("a last sigma of zero needs lower_order_final".to_owned());
        }
        let solver_type = match self.solver_type.as_str() {
            "bh1" => SolverType::Bh1,
            // The last three name other solvers, which the reference treats as bh2.
            "bh2" | "midpoint" | "heun" | "logrho" => SolverType::Bh2,
            other => return Err(format!("solver_type {other:?} is not supported")),
        };
        Ok(UniPcConfig {
            num_train_timesteps: self.num_train_timesteps,
            flow_shift: positive("flow_shift", self.flow_shift)?,
            solver_order: self.solver_order,
            solver_type,
            lower_order_final: self.lower_order_final,
            final_sigma_is_zero,
            disable_corrector: self.disable_corrector,
        })
    }
}

fn positive(name: &str, value: f64) -> Result<f64, String> {
    (value.is_finite() && value > 0.0).then_some(value).ok_or_else(|| format!("{name} must be positive"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Result<SchedulerConfig, String> {
        serde_json::from_str::<Settings>(json).unwrap().parse()
    }

    #[test]
    fn settings_that_would_change_the_result_are_refused_by_name() {
        let wan = r#""_class_name": "UniPCMultistepScheduler", "prediction_type": "flow_prediction", "use_flow_sigmas": true"#;
        assert!(parse(&format!("{{{wan}, \"flow_shift\": 3.0}}")).is_ok());
        for (setting, word) in [
            (r#""use_karras_sigmas": true"#, "use_karras_sigmas"),
            (r#""use_dynamic_shifting": true"#, "use_dynamic_shifting"),
            (r#""thresholding": true"#, "thresholding"),
            (r#""shift_terminal": 0.1"#, "shift_terminal"),
            (r#""predict_x0": false"#, "predict_x0"),
            (r#""solver_order": 4"#, "solver_order 4"),
            (r#""solver_type": "rk4""#, "rk4"),
            (r#""lower_order_final": false"#, "lower_order_final"),
            (r#""final_sigmas_type": "one""#, "final_sigmas_type"),
            (r#""flow_shift": -1.0"#, "flow_shift"),
        ] {
            let error = parse(&format!("{{{wan}, {setting}}}")).unwrap_err();
            assert!(error.contains(word), "{setting}: {error}");
        }
        let epsilon = parse(r#"{"_class_name": "UniPCMultistepScheduler"}"#).unwrap_err();
        assert!(epsilon.contains("flow_prediction"), "{epsilon}");
        let other = parse(r#"{"_class_name": "DDIMScheduler"}"#).unwrap_err();
        assert!(other.contains("DDIMScheduler"), "{other}");
    }

    #[test]
    fn a_shift_that_depends_on_the_tokens_is_read_and_checked() {
        let euler = r#""_class_name": "FlowMatchEulerDiscreteScheduler", "use_dynamic_shifting": true"#;
        let config = parse(&format!("{{{euler}}}")).unwrap();
        assert!(config.require_constant_shift().unwrap_err().contains("use_dynamic_shifting"));
        let stretched = r#"{"_class_name": "FlowMatchEulerDiscreteScheduler", "shift_terminal": 0.1}"#;
        assert!(parse(stretched).unwrap().require_constant_shift().unwrap_err().contains("shift_terminal"));
        for (setting, word) in [
            (r#""time_shift_type": "cubic""#, "cubic"),
            (r#""base_image_seq_len": 5000"#, "base_image_seq_len"),
            (r#""base_shift": -1.0"#, "base_shift"),
            (r#""shift_terminal": 1.5"#, "shift_terminal 1.5"),
        ] {
            let error = parse(&format!("{{{euler}, {setting}}}")).unwrap_err();
            assert!(error.contains(word), "{setting}: {error}");
        }
    }

    #[test]
    fn a_missing_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let error = SchedulerConfig::read(folder.path()).unwrap_err();
        assert!(
            matches!(&error, CheckpointError::Missing { path } if path.ends_with("scheduler/scheduler_config.json"))
        );
    }
}
