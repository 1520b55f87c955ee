-- The option --modes, the same for every command that serves, checks or plays modes.

return {
  name = "modes", short = "m", value = "DIR", repeated = true,
  doc = "Folder of mode folders, besides the modes inside the program and before them.",
}
