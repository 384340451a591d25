package fib

import (
	"cmp"
	"slices"
)

// Without removes items as slices.DeleteFunc does, which copies each item to ask about it.
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

// Any says whether an item is of a kind, as slices.ContainsFunc does, which copies
// each item to ask about it.
func Any[T any](list []T, is func(*T) bool) bool {
	for i := range list {
		if is(&list[i]) {
			return true
		}
	}
	return false
}

// SortStable sorts as slices.SortStableFunc does. It sorts the indexes and then moves
// each item once: items are large, and one sort of indexes serves every type, where
// slices.SortStableFunc would add 10 kB of code for each.
func SortStable[T any](list []T, compare func(a, b *T) int) {
	sortedUpTo := 1
	for sortedUpTo < len(list) && compare(&list[sortedUpTo-1], &list[sortedUpTo]) <= 0 {
		sortedUpTo++
	}
	if sortedUpTo >= len(list) {
		return // the usual case
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
