package image

import "context"

// Imports returns the names that disks were imported under.
func (s *Store) Imports() []string { return s.importNames() }

// Guest returns what runs in the image that ref asks for. The image need not
// be in the cache, unless it was imported.
func (s *Store) Guest(ctx context.Context, ref Ref) (Guest, error) {
	src, err := s.resolve(ref)
	if err != nil {
		return Guest{}, err
	}
	if src.family != nil {
		return src.family.guest(src.version), nil
	}
	img, err := s.open(ctx, src, nil)
	if err != nil {
		return Guest{}, err
	}
	return img.Guest, nil
}
