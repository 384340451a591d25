package fib

import (
	"cmp"
	"slices"
)

// Without takes items out, as slices.DeleteFunc does. That copies each of them to ask.
func Without[T any](list []T, gone func(*T) bool) []T {
	kept := 0
	for i := range list {
		if !gone(&list[i]) {
			list[kept] = list[i]
			kept++
		}
	}
	clear(list[kept:])
	return list[:kept]
}

// Any says whether there is one of a kind, as slices.ContainsFunc does. That copies each of
// them to ask.
func Any[T any](list []T, is func(*T) bool) bool {
	for i := range list {
		if is(&list[i]) {
			return true
		}
	}
	return false
}

// SortStable sorts as slices.SortStableFunc does. It sorts the places and then moves
// each item once: items are large, and one sort of places serves every type, where
// the code of slices.SortStableFunc, 10 kB, is there once for each.
func SortStable[T any](list []T, compare func(a, b *T) int) {
	sortedUpTo := 1
	for sortedUpTo < len(list) && compare(&list[sortedUpTo-1], &list[sortedUpTo]) <= 0 {
		sortedUpTo++
	}
	if sortedUpTo >= len(list) {
		return // mostly
	}
	from := make([]int, len(list))
	for i := range from {
		from[i] = i
	}
	slices.SortFunc(from, func(a, b int) int { return cmp.Or(compare(&list[a], &list[b]), a-b) })
	// Cycle by cycle, in place: a second copy of a large State costs more than the sort.
	for start := range from {
		if from[start] == start {
			continue
		}
		first := list[start]
		to := start
		for from[to] != start {
			next := from[to]
			list[to], from[to] = list[next], to
			to = next
		}
		list[to], from[to] = first, to
	}
}
