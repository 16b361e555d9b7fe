# Tells lines that are not in the style of the file they are in.

function tell(what) {
    printf "%s:%d: %s\n", FILENAME, FNR, what
    bad = 1
}

FNR == 1 {
    is_c = FILENAME ~ /\.[ch]$/
    is_generated = FILENAME ~ /_lua\.h$/
    blank = body_end = functions = 0
}

/\t/ && FILENAME !~ /debian\/rules$/   { tell("a tab") }
/[ \r]$/                               { tell("a space at the end") }

!is_c || is_generated { next }

length > 80                            { tell("longer than 80 columns") }
FNR == 1 && $0 != ""                   { tell("the first line is not empty") }
FNR == 3 && !/Copyright \(C\)/         { tell("no copyright") }

/^ *\/\// || /; *\/\//                 { tell("a comment with //") }
/(^|[^A-Za-z_])(if|for|while|switch)\(/  { tell("no space before (") }
/^ *} else/ && blank != 1              { tell("no blank line before else") }
/^#include/ && functions               { tell("included after a function") }
/^static [^=]*\(/ && functions         { tell("declared after a function") }

$0 != "" && blank > 2                  { tell("more than two blank lines") }
$0 != "" && body_end && !/^#/ && blank != 2 \
                                       { tell("not two blank lines before") }

$0 != ""                               { body_end = 0 }
$0 == "{"                              { functions++ }
$0 == "}"                              { body_end = FNR }

{ blank = $0 == "" ? blank + 1 : 0 }

END { exit bad }
