<?php
// Says what PHP makes of the inputs on standard input, one a line: a letter, a space and the input in base64.
//
//   F <form body>: the tree that parse_str fills, and what http_build_query makes of that tree
//   J <JSON array or object>: the tree that json_decode makes, and what http_build_query makes of it
//
// It answers each with a line of JSON. A tree is a list of [key, value] pairs in PHP's order, where a value is a string or
// again a list. All strings are in base64, because bodies may hold any bytes. The tests of the package run it:
//
//   go test -run TestPHP ./internal/phpform             compares with php where it is installed
//   go test -run TestPHPVectors -update ./internal/phpform   records testdata/php_vectors.json anew

function tree(array $a): array
{
    $pairs = [];
    foreach ($a as $key => $value) {
        $pairs[] = [base64_encode((string) $key), is_array($value) ? tree($value) : base64_encode((string) $value)];
    }
    return $pairs;
}

while (($line = fgets(STDIN)) !== false) {
    $input = base64_decode(substr(rtrim($line, "\n"), 2));
    if ($line[0] === 'F') {
        parse_str($input, $parsed);
    } else {
        $parsed = json_decode($input, true, 512, JSON_THROW_ON_ERROR);
    }
    $answer = ['tree' => tree($parsed), 'form' => base64_encode(http_build_query($parsed))];
    echo json_encode($answer, JSON_THROW_ON_ERROR, 1000), "\n";
}
