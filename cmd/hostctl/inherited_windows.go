package main

// keepInherited has nothing to do: on Windows, only handles that are named
// reach other programs.
func keepInherited() {}
