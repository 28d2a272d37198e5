# Note that the relay works with the files as they are. Before it: common.sh.
keep_files
