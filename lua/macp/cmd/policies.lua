-- `macp policies`: check governance policies before a runtime serves them. No database, no network.

return {
  summary = "Check governance policies.",
  help = [[
  macp policies check policies/         every *.json of a directory, as MACP_POLICIES_DIR would be read
  macp policies check strict.json       single files

A policy is one JSON object: {"policy_id": "policy.team.strict", "mode": "macp.mode.decision.v1", "schema_version": 3,
"rules": {"voting": {"algorithm": "majority"}}}. `macp modes doc modes/decision` lists the rules of a mode.]],
  verbs = { "check" },
  config = false,
}
