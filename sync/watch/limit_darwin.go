package watch

const limitHint = "raise the limit of open files by \"ulimit -n\"; until then everything is looked at every few seconds"
