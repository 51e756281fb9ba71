//! Names of parameters while a model is walked.

/// The names of the modules above a parameter, kept while walking a model.
#[derive(Debug, Default)]
pub(crate) struct ModulePath(Vec<String>);

impl ModulePath {
    pub(crate) fn enter(&mut self, name: &str) {
        self.0.push(name.to_string());
    }

    pub(crate) fn exit(&mut self) {
        self.0.pop();
    }

    /// `backbone.body.layer1.0.conv1.weight`
    pub(crate) fn name(&self) -> String {
        self.0.join(".")
    }
}
