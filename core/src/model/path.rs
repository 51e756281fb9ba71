//! Parameter names, built while the modules of a model are visited.

/// The names of the modules above a parameter.
#[derive(Debug, Default)]
pub(crate) struct ModulePath(Vec<String>);

/// A choice between modules adds nothing to a name: every backbone's parameters are under `backbone.body`.
fn is_choice(container: &str) -> bool {
    container.starts_with("Enum:")
}

impl ModulePath {
    pub(crate) fn enter(&mut self, name: &str, container: &str) {
        if !is_choice(container) {
            self.0.push(name.to_string());
        }
    }

    pub(crate) fn exit(&mut self, container: &str) {
        if !is_choice(container) {
            self.0.pop();
        }
    }

    /// `backbone.body.layer1.0.conv1.weight`
    pub(crate) fn name(&self) -> String {
        self.0.join(".")
    }
}
