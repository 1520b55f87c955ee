-- Contract of a template: a folder that handles modes it does not know in advance. `template` is the descriptor of such
-- a mode and stands for id, version and everything else that identifies an ordinary one.

local descriptors = require("macp.modes.descriptors")

local IDENTITY = { "id", "version", "title", "summary", "determinism", "schema_uris" }

local M = {}

---Fills the identity of model from mode.template, and model.template with the complete descriptor.
function M.check(c, mode, model)
  local given = c:get(mode, "", "template", "table")
  model.standard = false
  if given == nil then return end
  model.template = given
  for _, key in ipairs(IDENTITY) do
    if mode[key] ~= nil then
      c:problem(key, "a template takes this from its descriptor", "template.identity")
    end
  end
  local reason = descriptors.problem(given)
  if reason then return c:problem("template", reason, "template.descriptor") end
  local descriptor = descriptors.complete(given)
  model.template = descriptor
  model.id, model.version = descriptor.mode, descriptor.mode_version
  model.title, model.summary = descriptor.title, descriptor.description
  model.determinism = descriptor.determinism_class
end

return M
