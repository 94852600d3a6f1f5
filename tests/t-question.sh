# The question, answered: the numbers that the answer rests on, in the order in which it gives them.
. "$SEG_TESTS/lib.sh"
bash "$TOP/pipelines/the-question.sh" q >log 2>&1; is "the-question.sh runs through" "$?" 0 || tail -n 5 log
at=1
for want in '^class 4 .* 0\.2301 ' '^0\.012641 .*16 samples' '^! the weights are 0 \.\. 4, the class numbers themselves' '^class 4 .* 16\.3 % .*<-' \
	'^0\.569579 ' '^0\.09079[12] ' '^ *0\.00745' '^ *0\.0037' '^0\.951574 ' '^ *0\.147' '^-0\.265831 ' '^-2\.383142 ' '^ 0\.203605 +@smp' \
	'^0\.203506 ' '^class 4 .* 83\.7 % .*<- worst'; do
	line=$(tail -n +$at log | grep -nE -- "$want" | head -n 1 | cut -d: -f1)
	if [ -n "$line" ]; then ok "says $want"; at=$((at + line)); else no "says $want" "not after line $at of the answer"; fi
done
is "no table line is wider than 100 columns" "$(grep -vE '^(\$|[-0-9.]+  )' log | awk 'length > 100' | head -n 1)" ""
finish
