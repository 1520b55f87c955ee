-- Policy check: the rules of a policy against the modes it could meet. One for a mode is judged by that mode; one for
-- "*" by every mode, each of which looks only at its own groups: a group known to none is refused.

---@param registry table mode registry
---@param mode_id string mode id or "*"
---@param rules table
---@param schema_version integer
---@return boolean|nil ok
---@return string[] reasons or warnings
return function(registry, mode_id, rules, schema_version)
  if mode_id ~= "*" then
    local rev = registry:get(mode_id)
    if rev == nil then return true, { "mode " .. mode_id .. " is not loaded; the rules were not checked" } end
    return rev:check_policy(rules, schema_version)
  end
  local groups, refused, warnings = {}, {}, {}
  local modes = registry:list()
  for _, descriptor in ipairs(modes) do
    for name in pairs(registry:get(descriptor.mode):policy_groups()) do groups[name] = true end
  end
  for _, descriptor in ipairs(modes) do
    local ok, texts = registry:get(descriptor.mode):check_policy(rules, schema_version, { foreign_groups = groups })
    local into = ok and warnings or refused
    for _, text in ipairs(texts) do into[#into + 1] = text .. " (" .. descriptor.mode .. ")" end
  end
  if #refused > 0 then return nil, refused end
  return true, warnings
end
