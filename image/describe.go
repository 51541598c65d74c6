package image

import "context"

// Imports returns the names that disks were imported under.
func (s *Store) Imports() []string { return s.importNames() }

// Guest returns what runs in the image that ref asks for. The image need not
// be in the cache, unless it was imported; without a version it is what runs in
// the cached one, or else in the newest.
func (s *Store) Guest(ctx context.Context, ref Ref) (Guest, error) {
	src, err := s.resolve(ref)
	if err != nil {
		return Guest{}, err
	}
	switch {
	case src.family == nil:
		img, err := s.open(ctx, src, nil)
		if err != nil {
			return Guest{}, err
		}
		return img.Guest, nil
	case src.entry == nil:
		return src.family.guest(ref.Version), nil
	}
	version := src.version
	if version == "" {
		if version, err = s.current(src.series); err != nil {
			return Guest{}, err
		}
	}
	if version == "" {
		version = src.track.Series
	}
	return src.family.guest(version), nil
}
