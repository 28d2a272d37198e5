# Wait until the relay answers. Before it: common.sh. Exit status 1: it does not, and the end of its log is printed.
answers "$name" && exit 0
end_of_log "$name"
exit 1
