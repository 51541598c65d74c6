package watch

const limitHint = "raise fs.inotify.max_user_watches and fs.inotify.max_user_instances by sysctl; until then everything is looked at every few seconds"
